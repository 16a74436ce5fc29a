"""What must hold between the parts of a fleet file."""

from __future__ import annotations

import ipaddress
import itertools
import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyswiftops.specs import hosts
from pyswiftops.specs.container import Bridge

if TYPE_CHECKING:
    from pyswiftops.specs.fleet import Fleet


def problems(fleet: Fleet) -> Iterator[str]:
    """What does not hold, each as what is expected and what was found."""
    if not fleet.members:
        yield "a node that is no spare"
    found = list(_containers(fleet))
    yield from found
    if not found:
        yield from _paths(fleet)
        yield from _addresses(fleet)
        yield from _gpus_of_one_machine(fleet)
    yield from hosts.problems(fleet)


def _containers(fleet: Fleet) -> Iterator[str]:
    """What belongs to containers that we make, all of it or nothing."""
    if fleet.hosts and fleet.runtime != "container":
        yield f"hosts only with runtime container; this is {fleet.runtime.value}"
    if bool(fleet.hosts) != (fleet.container is not None):
        yield "hosts and container together, or neither of them"
    placed = [node.name for node in fleet.nodes if node.host is not None]
    if placed and not fleet.hosts:
        yield f"host only on nodes of a fleet with hosts; {', '.join(placed)} has one"
    if not fleet.hosts or fleet.container is None:
        return
    names = [host.name for host in fleet.hosts] + [node.name for node in fleet.nodes]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"names that no other host or node has; {', '.join(twice)} is there twice"
    known = [host.name for host in fleet.hosts]
    for node in fleet.nodes:
        if node.host is None and len(known) > 1:
            yield f"host: one of {', '.join(known)} for every node; {node.name} has none"
        elif node.host is not None and node.host not in known:
            yield f"host: one of {', '.join(known)}; {node.name} has {node.host}"
    used = {node.host for node in fleet.nodes}
    if isinstance(fleet.container.network, Bridge) and len(used) > 1:
        yield (
            "container.network: host where nodes are on several hosts, as a private network "
            "ends at its host"
        )


def _paths(fleet: Fleet) -> Iterator[str]:
    roots = [(node.name, posixpath.normpath(fleet.node_root(node))) for node in fleet.nodes]
    if fleet.runtime != "local":
        relative = [name for name, root in roots if not root.startswith("/")]
        if relative:
            yield f"absolute roots; not so on {', '.join(relative)}"
        mirror = fleet.hub.mirror if fleet.hub.mirror_at == "first_node" else None
        if mirror and mirror[0] != "/":
            yield "an absolute hub.mirror, as it lies on the first node"
    whole = [name for name, root in roots if root.strip("/.") == ""]
    if whole:
        yield f"roots below a folder of their own; not so on {', '.join(whole)}"
    by_root = sorted((root, name) for name, root in roots)
    for (root, name), (other_root, other) in itertools.pairwise(by_root):
        if root == other_root:
            yield f"a root of its own for every node; {name} and {other} share {root}"
        if fleet.runtime == "local" and other_root.startswith(f"{root}/"):
            yield f"roots beside each other; that of {other} lies in that of {name}"


def _addresses(fleet: Fleet) -> Iterator[str]:
    if fleet.runtime != "local":
        missing = [node.name for node in fleet.nodes if not fleet.address(node)]
        if missing:
            names = ", ".join(missing)
            yield f"an address for every node of runtime {fleet.runtime.value}; none for {names}"
        seen: dict[tuple[str | None, int], str] = {}
        for node in fleet.nodes:
            place = (fleet.address(node), fleet.port(node))
            if place in seen:
                yield f"an address and port of its own; {seen[place]} and {node.name} share one"
            seen[place] = node.name
        yield from _outside_of_subnet(fleet)
    if fleet.training_network is None:
        return
    network = ipaddress.ip_network(fleet.training_network, strict=False)
    for node in fleet.nodes:
        address = fleet.address_in_training(node)
        try:
            inside = ipaddress.ip_address(address) in network
        except ValueError:
            yield f"training addresses as numbers inside {network}; {node.name} has {address}"
            continue
        if not inside:
            yield f"training addresses inside {network}; {node.name} has {address}"


def _outside_of_subnet(fleet: Fleet) -> Iterator[str]:
    network = fleet.container.network if fleet.container else None
    if not isinstance(network, Bridge):
        return
    subnet = ipaddress.ip_network(network.subnet, strict=False)
    for node in fleet.nodes:
        try:
            address = ipaddress.ip_address(fleet.address(node) or "")
            inside = address in subnet and address not in (subnet[0], subnet[1], subnet[-1])
        except ValueError:
            inside = False
        if not inside:
            yield f"addresses inside container.network.subnet {subnet}; {node.name} is not"


def _gpus_of_one_machine(fleet: Fleet) -> Iterator[str]:
    """Nodes of one machine that name their GPUs must not share one: NCCL refuses that."""
    if not (fleet.runtime == "local" or fleet.hosts) or fleet.device == "cpu":
        return
    owner: dict[tuple[str | None, int], str] = {}
    for node in fleet.nodes:
        for gpu in fleet.gpu_list(node):
            if (node.host, gpu) in owner:
                both = f"{owner[node.host, gpu]} and {node.name}"
                yield f"GPUs of its own for every node; {both} share {gpu}"
            owner[node.host, gpu] = node.name
