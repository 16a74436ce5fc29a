"""Which RDMA devices a fleet trains over: InfiniBand, RoCE or EFA that all nodes have, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyswiftops.network.facts import Hca, NodeNetwork
from pyswiftops.network.findings import Remark, Severity, remark

FABRICS = ("ib", "roce", "efa")  # what all nodes have of these is taken, in this order
NAMES = {"ib": "InfiniBand", "roce": "RoCE", "efa": "EFA"}


@dataclass(frozen=True)
class Ports:
    """The ports of a node that a fabric is used through.

    Attributes:
        used: In the order of their names.
        left_out: Port -> why not.
        family: 4 or 6, of the GIDs.
    """

    used: tuple[Hca, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    family: int = 4

    @property
    def gid_index(self) -> int | None:
        """The index of the RoCE v2 GID, where all ports have the same."""
        indices = {hca.gid_index(self.family) for hca in self.used}
        return indices.pop() if len(indices) == 1 else None

    @property
    def selected(self) -> str:
        """As NCCL_IB_HCA takes it; ``=`` keeps mlx5_1 from meaning mlx5_10."""
        return "=" + ",".join(f"{hca.name}:{hca.port}" for hca in self.used)

    @property
    def rates(self) -> str:
        """For instance ``8 x 400 Gb/s``."""
        rate = self.used[0].rate if self.used else None
        return f"{len(self.used)} x {rate:g} Gb/s" if rate else f"{len(self.used)} ports"


@dataclass(frozen=True)
class Fabric:
    """What the fleet uses.

    Attributes:
        name: A fabric, ``mixed`` or ``none``.
        ports: Node -> its ports; empty for ``mixed`` and ``none``.
        offers: Node -> what it could use.
        remarks: What is not as it should be.
    """

    name: str
    ports: dict[str, Ports]
    offers: dict[str, tuple[str, ...]]
    remarks: tuple[Remark, ...]


def agree(nodes: Sequence[NodeNetwork], family: int) -> Fabric:
    """The fabric that all nodes have.

    Args:
        nodes: Those that told something.
        family: 4 or 6, of the training network.
    """
    found = {node.name: {name: ports(node, name, family) for name in FABRICS} for node in nodes}
    offers = {
        node: tuple(name for name in FABRICS if of_node[name].used)
        for node, of_node in found.items()
    }
    common = [name for name in FABRICS if offers and all(name in has for has in offers.values())]
    remarks = [mark for node in nodes for mark in _unusable(node)]
    if common:
        chosen = {node: of_node[common[0]] for node, of_node in found.items()}
        chosen = _on_shared_networks(nodes, chosen) if common[0] == "roce" else chosen
        remarks += _uneven(chosen) + [
            mark for node in nodes for mark in _reach(node, chosen[node.name], common[0])
        ]
        return Fabric(common[0], chosen, offers, tuple(remarks))
    if not any(offers.values()):
        return Fabric("none", {}, offers, tuple(remarks))
    return Fabric("mixed", {}, offers, (*remarks, _mixed(found, offers)))


def ports(node: NodeNetwork, fabric: str, family: int) -> Ports:
    """The ports of a node that a fabric can be used through: the fastest of those that can."""
    fit: list[Hca] = []
    left: list[tuple[str, str]] = []
    for hca in node.hcas:
        why = _why_not(hca, fabric, family)
        if fabric == "efa" and not why and not node.plugins:
            why = "NCCL needs the plugin aws-ofi-nccl"
        if why:
            left.append((f"{hca.name}:{hca.port}", why))
        else:
            fit.append(hca)
    most = max((hca.rate or 0 for hca in fit), default=0)
    slow = [hca for hca in fit if (hca.rate or 0) < most]
    left += [(f"{hca.name}:{hca.port}", f"{hca.rate or 0:g} of {most:g} Gb/s") for hca in slow]
    return Ports(tuple(hca for hca in fit if hca not in slow), tuple(left), family)


def _why_not(hca: Hca, fabric: str, family: int) -> str:
    kind = {"InfiniBand": "ib", "Ethernet": "roce"}.get(hca.link_layer, hca.link_layer)
    without = fabric == "roce" and hca.gid_index(family) is None
    reasons = (
        ("software RDMA", hca.software),
        ("the port is down", not hca.active),
        (NAMES.get("efa" if hca.is_efa else kind, kind), ("efa" if hca.is_efa else kind) != fabric),
        (f"no RoCE v2 GID of an IPv{family} address", without),
    )
    return next((why for why, holds in reasons if holds), "")


def _unusable(node: NodeNetwork) -> list[Remark]:
    found = []
    if any(hca.is_efa for hca in node.hcas) and not node.plugins:
        found.append(
            remark(
                "efa_without_plugin",
                Severity.WARN,
                "libnccl-net (aws-ofi-nccl), which NCCL needs for EFA",
                "EFA devices and no plugin: NCCL takes sockets",
                node.name,
                "install aws-ofi-nccl in the image, or take an image that has it",
            )
        )
    bare = [
        f"{hca.name} ({hca.interface})" if hca.interface else hca.name
        for hca in node.hcas
        if hca.active
        and hca.link_layer == "Ethernet"
        and not (hca.software or hca.is_efa)
        and hca.gid_index(4) is None
        and hca.gid_index(6) is None
    ]
    if bare:
        found.append(
            remark(
                "roce_without_address",
                Severity.NOTE,
                "an IP address, and so a RoCE v2 GID, on each Ethernet port that is to be used",
                f"none on {', '.join(bare)}",
                node.name,
                "give the interfaces addresses if these ports are for training; else nothing",
            )
        )
    return found


def _on_shared_networks(nodes: Sequence[NodeNetwork], chosen: dict[str, Ports]) -> dict[str, Ports]:
    """Where nodes have different numbers of RoCE ports: those on networks that all nodes are on.

    NCCL pairs ports by their place in the list, so that a port of another network is waited for.
    """
    on = {
        (node.name, hca.name): set(node.links[str(hca.interface)].prefixes)
        if hca.interface in node.links
        else set()
        for node in nodes
        for hca in chosen[node.name].used
    }
    of_nodes = [
        set().union(*(on[node.name, hca.name] for hca in chosen[node.name].used)) for node in nodes
    ]
    shared = set.intersection(*of_nodes)
    kept = {
        node: replace(
            ports,
            used=tuple(hca for hca in ports.used if on[node, hca.name] & shared),
            left_out=ports.left_out
            + tuple(
                (f"{hca.name}:{hca.port}", "its network is not on all nodes")
                for hca in ports.used
                if not on[node, hca.name] & shared
            ),
        )
        for node, ports in chosen.items()
    }
    before = {len(ports.used) for ports in chosen.values()}
    after = {len(ports.used) for ports in kept.values()}
    return kept if len(before) > 1 and len(after) == 1 and 0 not in after else chosen


def _uneven(chosen: dict[str, Ports]) -> list[Remark]:
    told: dict[str, list[str]] = {}
    for node, of_node in chosen.items():
        told.setdefault(of_node.rates, []).append(node)
    if len(told) < 2:  # noqa: PLR2004 they differ
        return []
    return [
        remark(
            "uneven_ports",
            Severity.WARN,
            "the same number and rate of RDMA ports on all nodes: the least of them sets the pace",
            "; ".join(f"{rates} on {', '.join(nodes)}" for rates, nodes in told.items()),
            "the fleet",
            "look at ibstat and at cables where there are fewer",
        )
    ]


def _reach(node: NodeNetwork, used: Ports, fabric: str) -> list[Remark]:
    found = []
    if fabric == "roce" and used.gid_index is None:
        told = ", ".join(f"{hca.name} {hca.gid_index(used.family)}" for hca in used.used)
        found.append(
            remark(
                "gid_index_differs",
                Severity.NOTE,
                "one index of the RoCE v2 GID for all ports of a node",
                told,
                node.name,
                "NCCL 2.21 and later find it for each port; with an older one, keep those ports "
                "whose index is the same: NCCL_IB_HCA and NCCL_IB_GID_INDEX in env",
            )
        )
    if node.gpus and not node.gpudirect:
        found.append(
            remark(
                "gpudirect_off",
                Severity.WARN,
                "GPUDirect RDMA: the module nvidia_peermem, or DMA-BUF (open driver, Linux 5.12)",
                "neither: data goes through the host's memory, several times slower",
                node.name,
                "modprobe nvidia_peermem",
            )
        )
    names = {hca.name for hca in used.used}
    far = sorted(
        gpu
        for gpu, distances in node.topology.items()
        if names & set(distances)
        and not {distances[name] for name in names & set(distances)} & {"PIX", "PXB"}
    )
    if far:
        found.append(
            remark(
                "nic_far_from_gpu",
                Severity.NOTE,
                "a port below the same PCIe switch as each GPU (PIX or PXB)",
                f"none near {', '.join(far)}",
                node.name,
                "nothing, if the machine is built so; else look at nvidia-smi topo -m",
            )
        )
    return found


def _mixed(found: dict[str, dict[str, Ports]], offers: dict[str, tuple[str, ...]]) -> Remark:
    """Nodes have no fabric in common: which to leave out, so that the others have one."""
    told = {
        node: " and ".join(f"{NAMES[name]} {found[node][name].rates}" for name in has) or "none"
        for node, has in offers.items()
    }
    counts = {name: [node for node, has in offers.items() if name in has] for name in FABRICS}
    best = max(FABRICS, key=lambda name: len(counts[name]))
    odd = [node for node in offers if node not in counts[best]]
    advice = f"leave {', '.join(odd)} out of the fleet to train over {NAMES[best]} on the others"
    alone = len(counts[best]) == 1
    return remark(
        "mixed_fabrics",
        Severity.WARN,
        "one of InfiniBand, RoCE and EFA on all nodes",
        "; ".join(f"{node}: {what}" for node, what in told.items()),
        "the fleet",
        ("all nodes train over sockets (NCCL_NET=Socket)" if alone else advice)
        + ("" if alone else "; as it is, all train over sockets (NCCL_NET=Socket)"),
    )
