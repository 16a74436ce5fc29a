"""What only shows when the facts of all nodes lie side by side."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pyswiftops.network.facts import TUNNELS, Link, NodeNetwork
from pyswiftops.network.findings import Remark, Severity, remark
from pyswiftops.network.interfaces import Choice

FASTER = 4  # times, before another network is worth a word


def plugins(nodes: Sequence[NodeNetwork]) -> Remark | None:
    """An external plugin of NCCL that only some nodes have."""
    have = [node.name for node in nodes if node.plugins]
    if not have or len(have) == len(nodes):
        return None
    return remark(
        "plugin_not_everywhere",
        Severity.NOTE,
        "the same libnccl-net on all nodes, or on none",
        f"only on {', '.join(have)}",
        "the fleet",
        "the built-in network is set for all (NCCL_NET=IB); use one image to have the plugin",
    )


def remarks(
    nodes: Sequence[NodeNetwork], choices: Mapping[str, Choice], *, over_sockets: bool
) -> list[Remark]:
    """Everything about more than one node.

    Args:
        nodes: In rank order.
        choices: Node -> what it trains over.
        over_sockets: Whether data, and not only the first words, go over the interfaces.
    """
    told = [node for node in nodes if node.told and not choices[node.name].alone]
    if len(told) < 2:  # noqa: PLR2004 nothing to compare
        return []
    found = [*_master(nodes[0]), *_families(told, choices), *_sizes(told, choices)]
    found += [mark for node in told for mark in _return_path(node, told)]
    if over_sockets:
        found += _speeds(told, choices) + _faster(told, choices)
    return found


def _master(first: NodeNetwork) -> list[Remark]:
    if not first.told or first.holder(first.resolved):
        return []
    return [
        remark(
            "master_address_not_here",
            Severity.WARN,
            f"the address of the first node, {first.address}, on one of its interfaces",
            ", ".join(address for link in first.links.values() for address in link.addresses),
            first.name,
            "set its training_address to an address that it has; one behind NAT cannot be bound to",
        )
    ]


def _families(nodes: Sequence[NodeNetwork], choices: Mapping[str, Choice]) -> list[Remark]:
    sixth = [node.name for node in nodes if ":" in choices[node.name].address]
    if not sixth or len(sixth) == len(nodes):
        return []
    return [
        remark(
            "address_families",
            Severity.BLOCK,
            "IPv4 on all nodes, or IPv6 on all",
            f"IPv6 on {', '.join(sixth)} alone",
            "the fleet",
            "set training_address of all nodes to addresses of one family",
        )
    ]


def _by(
    nodes: Sequence[NodeNetwork], choices: Mapping[str, Choice], what: str
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for node in nodes:
        link = choices[node.name].link
        value = getattr(link, what) if link else None
        if value:
            found[value].append(f"{node.name} ({link.name if link else ''})")
    return found


def _sizes(nodes: Sequence[NodeNetwork], choices: Mapping[str, Choice]) -> list[Remark]:
    sizes = _by(nodes, choices, "mtu")
    if len(sizes) < 2:  # noqa: PLR2004 they are the same
        return []
    least = min(sizes)
    return [
        remark(
            "mtu_differs",
            Severity.WARN,
            "the same MTU on all nodes: larger packets may vanish on the way",
            "; ".join(f"{size} on {', '.join(names)}" for size, names in sorted(sizes.items())),
            "the fleet",
            f"ip link set dev INTERFACE mtu {least} where it is larger, or the larger on all nodes "
            "and switches",
        )
    ]


def _speeds(nodes: Sequence[NodeNetwork], choices: Mapping[str, Choice]) -> list[Remark]:
    speeds = _by(nodes, choices, "speed")
    if len(speeds) < 2:  # noqa: PLR2004 they are the same
        return []
    told = (f"{speed / 1000:g} Gb/s on {', '.join(on)}" for speed, on in sorted(speeds.items()))
    return [
        remark(
            "speed_differs",
            Severity.NOTE,
            "the same speed on all nodes: the slowest sets the pace",
            "; ".join(told),
            "the fleet",
            "look at ethtool on the slow ones: cable, port of the switch, autonegotiation",
        )
    ]


def _return_path(node: NodeNetwork, nodes: Sequence[NodeNetwork]) -> list[Remark]:
    """Packets to a peer must leave with the address that the peer knows this node by."""
    odd = {
        other.name: route
        for other in nodes
        if other is not node
        and (route := node.routes.get(other.address))
        and route.source
        and not route.local
        and route.source != node.resolved
        and node.holder(node.resolved) not in (None, node.holder(route.source))
    }
    if not odd:
        return []
    route = next(iter(odd.values()))
    holder = node.holder(node.resolved)
    return [
        remark(
            "asymmetric_route",
            Severity.WARN,
            f"packets to peers from {node.resolved} ({holder.name if holder else '?'}), as which "
            "the peers know it",
            f"to {', '.join(odd)} from {route.source} over {route.interface}",
            node.name,
            f"look at ip route get {route.resolved}; "
            "set training_address of all nodes to addresses of one network",
        )
    ]


def _faster(nodes: Sequence[NodeNetwork], choices: Mapping[str, Choice]) -> list[Remark]:
    """Another network that all nodes are on and that is much faster."""
    seen: dict[str, dict[str, Link]] = defaultdict(dict)
    for node in nodes:
        for link in node.links.values():
            if link.up and link.speed and not link.of_containers and link.kind not in TUNNELS:
                for prefix in link.prefixes:
                    seen[prefix][node.name] = link
    chosen = [choices[node.name].link for node in nodes]
    now = [link.speed for link in chosen if link and link.speed]
    if len(now) < len(nodes):
        return []
    for prefix, links in sorted(seen.items(), key=lambda item: -_least(item[1])):
        if len(links) == len(nodes) and _least(links) >= FASTER * min(now):
            addresses = {name: _inside(link, prefix) for name, link in links.items()}
            return [
                remark(
                    "faster_network",
                    Severity.NOTE,
                    f"training over the fastest network that all nodes have: {prefix}, "
                    f"{_least(links) / 1000:g} Gb/s",
                    f"addresses of the fleet file lie on one of {min(now) / 1000:g} Gb/s",
                    "the fleet",
                    "set training_address: "
                    + ", ".join(f"{name}: {address}" for name, address in addresses.items()),
                )
            ]
    return []


def _least(links: Mapping[str, Link]) -> int:
    return min(link.speed or 0 for link in links.values())


def _inside(link: Link, prefix: str) -> str:
    net = ipaddress.ip_network(prefix)
    return next(item for item in link.addresses if ipaddress.ip_address(item) in net)
