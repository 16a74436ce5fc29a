"""The interface that a node trains over: that of the routes to its peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pyswiftops.network.facts import TUNNELS, Link, NodeNetwork, Route
from pyswiftops.network.findings import Remark, Severity, remark


@dataclass(frozen=True)
class Choice:
    """What a node trains over.

    Attributes:
        link: The interface, or None where none can be named.
        address: Its own address there.
        why: The reason, in one sentence.
        remarks: What is not as it should be.
        alone: All nodes are on this machine, so that nothing leaves it.
    """

    link: Link | None
    address: str
    why: str
    remarks: tuple[Remark, ...] = ()
    alone: bool = False


def choose(node: NodeNetwork, nodes: Sequence[NodeNetwork]) -> Choice:
    """The interface of ``node`` among ``nodes``, which are in rank order."""
    routes = {
        other.name: node.routes.get(other.address, Route(error="it was not asked for"))
        for other in nodes
        if other.name != node.name
    }
    remarks = _unreachable(node, routes)
    ways = {name: route for name, route in routes.items() if route.interface and not route.local}
    if node.interface:
        return _named(node, ways, remarks)
    if not ways:
        return _at_home(node, routes, remarks)
    count = Counter(str(route.interface) for route in ways.values())
    first = nodes[0].name
    name = str(ways[first].interface) if first in ways else count.most_common(1)[0][0]
    if len(count) > 1:
        remarks.append(_several(node, ways))
    through = [peer for peer, route in ways.items() if route.interface == name]
    route = ways[through[0]]
    link = node.links.get(name)
    address = route.source or node.resolved
    if link is None:
        return Choice(None, address, f"the route leaves over {name}, which it does not list")
    remarks += _unfit(node, link, route)
    why = f"the route to {_some(through)} leaves over {link.shown} as {address}"
    return Choice(link, address, why + _left_out(node, link), tuple(remarks))


def _some(names: Sequence[str]) -> str:
    few = 3
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return ", ".join(names[:few]) + more


def _left_out(node: NodeNetwork, chosen: Link) -> str:
    others = [
        link.shown
        for link in node.links.values()
        if link.name != chosen.name and link.addresses and link.kind != "loopback"
    ]
    return f"; no route to a peer goes over {', '.join(others)}" if others else ""


def _named(node: NodeNetwork, ways: dict[str, Route], remarks: list[Remark]) -> Choice:
    name = str(node.interface)
    link = node.links.get(name)
    why = "the fleet names it: training_interface, or eth0 and lo where it made the network"
    if not node.told:
        return Choice(_unseen(name), node.address, why, tuple(remarks))
    if link is None:
        leave = sorted({str(route.interface) for route in ways.values()})
        remarks.append(
            remark(
                "interface_missing",
                Severity.BLOCK,
                f"an interface {name}, as training_interface says",
                ", ".join(sorted(node.links)),
                node.name,
                f"set training_interface of node {node.name} to {' or '.join(leave) or 'another'}, "
                "or leave it out: the route decides",
            )
        )
        return Choice(_unseen(name), node.resolved, why, tuple(remarks))
    sources = [str(route.source) for route in ways.values() if route.interface == name]
    address = (sources or [item for item in link.addresses if item == node.resolved])[:1]
    other = [peer for peer, route in ways.items() if route.interface != name]
    if other:
        remarks.append(
            remark(
                "interface_not_of_route",
                Severity.WARN,
                f"routes to peers over {name}, as training_interface says",
                f"to {_some(other)} over {ways[other[0]].interface}",
                node.name,
                f"set training_address of the nodes to those on the network of {name}, or leave "
                "training_interface out",
            )
        )
    own = (address or list(link.addresses) or [node.resolved])[0]
    alone = link.kind == "loopback"
    return Choice(link, own, why, tuple(remarks), alone=alone)


def _unseen(name: str) -> Link:
    return Link(name, "unknown", True, 0, None, None, None, (), ())  # noqa: FBT003 no facts of it


def _at_home(node: NodeNetwork, routes: dict[str, Route], remarks: list[Remark]) -> Choice:
    """No route leaves the machine: a fleet of one, several nodes on one machine, or no facts."""
    alone = all(route.local for route in routes.values())
    link = node.holder(node.resolved)
    if link is None and alone:
        link = node.links.get("lo")
    if not node.told:
        remarks = [
            remark(
                "no_facts",
                Severity.WARN,
                "facts of every node",
                f"none of {node.name}",
                node.name,
                "swiftops up, or swiftops why nccl --now",
            )
        ]
        return Choice(None, node.address, "the node told nothing", tuple(remarks))
    if not alone:
        return Choice(None, node.resolved, "no route to a peer", tuple(remarks))
    why = "no other node" if not routes else "all nodes are on this machine"
    return Choice(link, node.resolved, why, tuple(remarks), alone=True)


def _unreachable(node: NodeNetwork, routes: dict[str, Route]) -> list[Remark]:
    if not node.told:
        return []
    found = []
    lost = {peer: route for peer, route in routes.items() if route.error}
    if lost:
        found.append(
            remark(
                "no_route",
                Severity.BLOCK,
                "a route to every node",
                "; ".join(f"to {peer}: {route.error}" for peer, route in lost.items()),
                node.name,
                "look at ip route on the node; set training_address of each node in the fleet file "
                "to an address that all of them reach",
            )
        )
    looped = [
        peer
        for peer, route in routes.items()
        if (route.resolved or "").startswith("127.") and node.address != route.resolved
    ]
    if looped and not (node.resolved.startswith("127.") or node.interface == "lo"):
        found.append(
            remark(
                "peer_is_loopback",
                Severity.BLOCK,
                "names of nodes that stand for their addresses",
                f"{_some(looped)} is {routes[looped[0]].resolved} there",
                f"{node.name}: /etc/hosts",
                "set training_address to IP addresses, or correct /etc/hosts",
            )
        )
    return found


def _several(node: NodeNetwork, ways: dict[str, Route]) -> Remark:
    told: dict[str, list[str]] = {}
    for peer, route in ways.items():
        told.setdefault(str(route.interface), []).append(peer)
    return remark(
        "several_interfaces",
        Severity.WARN,
        "one interface that leads to all nodes",
        "; ".join(f"{name} to {_some(peers)}" for name, peers in told.items()),
        node.name,
        "set training_address of all nodes to addresses of one network",
    )


def _unfit(node: NodeNetwork, link: Link, route: Route) -> list[Remark]:
    """What is wrong with the interface that the route names."""
    if link.of_containers:
        return [
            remark(
                "interface_of_containers",
                Severity.BLOCK,
                "a route to peers that leaves the machine",
                f"{link.shown} has the network of {route.resolved}",
                node.name,
                "set training_address to the machine's own network, or give Docker another network "
                "(bip and default-address-pools in /etc/docker/daemon.json)",
            )
        ]
    if link.kind in TUNNELS:
        return [
            remark(
                "tunnel",
                Severity.WARN,
                "a network without a tunnel",
                link.shown,
                node.name,
                "set training_address to addresses of the network below the tunnel",
            )
        ]
    if route.source and route.source not in link.addresses:
        holder = node.holder(route.source)
        return [
            remark(
                "interface_without_address",
                Severity.BLOCK,
                f"the address {route.source} on {link.name}: NCCL and Gloo listen at an address of "
                "the interface that they are given",
                f"it is on {holder.name if holder else 'no interface'}; {link.name} has "
                f"{', '.join(link.addresses) or 'none'}",
                node.name,
                f"ip address add {route.source}/32 dev {link.name}, or a bond of the interfaces "
                "with the address on it",
            )
        ]
    return []
