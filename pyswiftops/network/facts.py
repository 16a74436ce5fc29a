"""What nodes tell of their networks, and what a fleet asks of each."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

TUNNELS = ("tun", "wireguard", "vxlan", "geneve", "gre", "gretap", "ipip", "sit", "ip6tnl")
_CONTAINERS = re.compile(
    r"docker\d*|docker_gwbridge|br-[0-9a-f]{12}|virbr\d+(-nic)?|lxcbr\d+|lxdbr\d+|podman\d+|cni\d*"
    r"|cni-podman\d+|cbr\d+|flannel.*|cali[0-9a-f].*|kube-.*|nodelocaldns|vmnet\d+"
)
_SOFTWARE = re.compile(r"(rxe|siw)")


@dataclass(frozen=True)
class Link:
    """A network interface of a node.

    Attributes:
        name: As the node calls it.
        kind: ``physical``, ``ipoib``, ``bond``, ``vlan``, ``bridge``, ``veth``, ``loopback``, or
            another kind of iproute2.
        up: It is up and has a carrier.
        mtu: Bytes.
        speed: Mb/s, or None where the kernel does not tell.
        master: The bond or bridge that it belongs to.
        mode: Of a bond.
        addresses: Those that are not of the link alone.
        prefixes: Their networks.
    """

    name: str
    kind: str
    up: bool
    mtu: int
    speed: int | None
    master: str | None
    mode: str | None
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Link:
        """From an item of ``interfaces``."""
        routable = [item for item in told["addresses"] if item["scope"] not in {"link", "host"}]
        nets = (
            str(ipaddress.ip_network(f"{item['address']}/{item['prefix']}", strict=False))
            for item in routable
        )
        return cls(
            **{name: told[name] for name in ("name", "kind", "up", "mtu", "speed", "master")},
            mode=told.get("mode"),
            addresses=tuple(item["address"] for item in routable),
            prefixes=tuple(nets),
        )

    @property
    def families(self) -> set[int]:
        """4, 6, or both."""
        return {6 if ":" in address else 4 for address in self.addresses}

    @property
    def of_containers(self) -> bool:
        """A bridge that Docker, libvirt or Kubernetes made: its packets stay on the machine."""
        return bool(_CONTAINERS.fullmatch(self.name))

    @property
    def shown(self) -> str:
        """For reasons: the name and what it is."""
        what = "a bridge of containers" if self.of_containers else self.kind
        mode = f" {self.mode}" if self.mode else ""
        speed = f", {self.speed / 1000:g} Gb/s" if self.speed else ""
        return f"{self.name} ({what}{mode}{speed}, MTU {self.mtu})"


@dataclass(frozen=True)
class Route:
    """How a node reaches a peer.

    Attributes:
        resolved: The peer's IP address as this node sees it.
        interface: Where its packets leave.
        source: The address that they leave with.
        via: A gateway.
        local: The peer is this machine.
        error: Why there is none.
    """

    resolved: str | None = None
    interface: str | None = None
    source: str | None = None
    via: str | None = None
    local: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Hca:
    """A port of an RDMA device.

    Attributes:
        name: For instance ``mlx5_0``.
        port: From 1.
        driver: The kernel driver, where told.
        link_layer: ``InfiniBand``, ``Ethernet`` or ``Unknown``.
        active: The port is up.
        rate: Gb/s.
        interface: Its network interface.
        gids: index, type, gid, interface of each.
    """

    name: str
    port: int
    driver: str | None
    link_layer: str
    active: bool
    rate: float | None
    interface: str | None
    gids: tuple[Mapping[str, Any], ...] = ()

    @property
    def software(self) -> bool:
        """Soft RoCE or Soft iWARP."""
        return bool(_SOFTWARE.match(self.name))

    @property
    def is_efa(self) -> bool:
        """AWS Elastic Fabric Adapter."""
        return self.driver == "efa" or self.name.startswith(("efa_", "rdmap"))

    def gid_index(self, family: int) -> int | None:
        """The first RoCE v2 GID that stands for an address of the family which can be routed."""
        for gid in self.gids:
            address = ipaddress.IPv6Address(gid["gid"])
            real = address.ipv4_mapped or address
            if "v2" in gid["type"].lower() and real.version == family and not real.is_link_local:
                return int(gid["index"])
        return None


@dataclass(frozen=True)
class NodeNetwork:
    """A node: what the fleet says of it, and what it tells itself.

    Attributes:
        name: Of the node.
        address: Where the fleet says that its ranks are found.
        interface: What the fleet names, or None.
        given: Variables that the fleet or the run sets -> value and where.
        told: Whether the node told anything.
        links: Name -> interface.
        routes: Peer's address -> route.
        hcas: Ports of RDMA devices.
        plugins: Files of external plugins of NCCL.
        gpus: How many.
        gpudirect: HCAs can reach the GPUs' memory.
        preset: Variables that the machine sets -> value and where.
        topology: GPU -> NIC -> distance, where it was asked for.
    """

    name: str
    address: str
    interface: str | None = None
    given: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    told: bool = False
    links: Mapping[str, Link] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    hcas: tuple[Hca, ...] = ()
    plugins: tuple[str, ...] = ()
    gpus: int = 0
    gpudirect: bool = False
    preset: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    topology: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        variables: Mapping[str, Any],
        facts: Mapping[str, Any] | None,
        run: Mapping[str, str] | None = None,
    ) -> NodeNetwork:
        """From a node's variables in the inventory and what it told, if it did.

        Args:
            name: Of the node.
            variables: ``swiftops_address``, and ``swiftops_interface`` and ``swiftops_env``.
            facts: What the module ``network_facts`` returns as ``network``.
            run: ``training.env`` of a run.
        """
        given = {
            key: (str(value), "env of the fleet file")
            for key, value in (variables.get("swiftops_env") or {}).items()
        } | {
            key: (str(value), "training.env of the run file") for key, value in (run or {}).items()
        }
        interface = variables.get("swiftops_interface") or None
        asked = cls(name, str(variables["swiftops_address"]), interface, given)
        if not facts:
            return asked
        reach = facts["gpudirect"]
        return replace(
            asked,
            told=True,
            links={item["name"]: Link.of(item) for item in facts["interfaces"]},
            routes={peer: Route(**route) for peer, route in facts["routes"].items()},
            hcas=tuple(Hca(**{**item, "gids": tuple(item["gids"])}) for item in facts["hcas"]),
            plugins=tuple(facts["plugins"]),
            gpus=int(reach["gpus"]),
            gpudirect=bool(reach["peermem"] or reach["dmabuf"]),
            preset={item["name"]: (item["value"], item["where"]) for item in facts["preset"]},
            topology=facts.get("topology") or {},
        )

    @property
    def resolved(self) -> str:
        """Its own address as an IP address, where it knows it."""
        route = self.routes.get(self.address)
        return (route.resolved if route else None) or self.address

    def holder(self, address: str) -> Link | None:
        """The interface that has an address."""
        return next((link for link in self.links.values() if address in link.addresses), None)
