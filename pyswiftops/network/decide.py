"""Facts of all nodes in; the environment of each, with a reason for every value, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyswiftops.network import across
from pyswiftops.network.facts import NodeNetwork
from pyswiftops.network.findings import Remark, Severity, remark
from pyswiftops.network.interfaces import Choice, choose
from pyswiftops.network.rdma import NAMES, Fabric, agree

LAUNCH = ("MASTER_ADDR",)  # the launch sets it, and the node's file does not
INTERFACE = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
DERIVED, FLEET, MACHINE = "derived", "fleet", "machine"


@dataclass(frozen=True)
class Value:
    """A variable of a node.

    Attributes:
        value: What holds.
        why: Where it comes from.
        source: ``derived`` from facts; ``fleet``: the fleet or run file says so; ``machine``: the
            machine sets it already.
    """

    value: str
    why: str
    source: str = DERIVED


@dataclass(frozen=True)
class Decision:
    """What the fleet trains over.

    Attributes:
        fabric: ``ib``, ``roce``, ``efa``, ``mixed`` (sockets) or ``none`` (sockets).
        nodes: Node -> variable -> value, in the order of the fleet.
        addresses: Node -> its own address on the training network: what Ray (--node-ip-address),
            vLLM, SGLang and ZMQ are to bind to and to be known by.
        remarks: What is not as it should be, the worst first.
    """

    fabric: str
    nodes: Mapping[str, Mapping[str, Value]]
    addresses: Mapping[str, str]
    remarks: tuple[Remark, ...]

    def environment(self, node: str) -> dict[str, str]:
        """What the node's file holds: what is derived, and the interface that the fleet names."""
        return {
            name: value.value
            for name, value in self.nodes[node].items()
            if name not in LAUNCH
            and (value.source == DERIVED or (name in INTERFACE and value.source == FLEET))
        }


def decide(nodes: Sequence[NodeNetwork]) -> Decision:
    """What every node is to train over.

    Args:
        nodes: In rank order; one that told nothing gets only what the fleet says.
    """
    choices = {node.name: choose(node, nodes) for node in nodes}
    told = [node for node in nodes if node.told]
    family = 6 if any(":" in choices[node.name].address for node in told) else 4
    apart = len(nodes) > 1 and not all(choice.alone for choice in choices.values())
    fabric = agree(told, family) if apart and told else Fabric("none", {}, {}, ())
    plugin = across.plugins(told) if fabric.name in {"ib", "roce"} else None
    values: dict[str, dict[str, Value]] = {}
    remarks = [mark for choice in choices.values() for mark in choice.remarks]
    remarks += [*fabric.remarks, *([plugin] if plugin else [])]
    remarks += across.remarks(nodes, choices, over_sockets=not fabric.ports)
    for node in nodes:
        choice = choices[node.name]
        derived = _sockets(choice) | _serving(choice, nodes)
        if apart and node.told:
            derived |= _rdma(node, fabric, family, one_plugin=plugin is None)
        values[node.name], contradictions = _kept(node, choice, derived)
        remarks += contradictions
    order = list(Severity)
    return Decision(
        fabric.name,
        values,
        {name: choice.address for name, choice in choices.items()},
        tuple(sorted(remarks, key=lambda mark: order.index(mark.severity))),
    )


def _sockets(choice: Choice) -> dict[str, Value]:
    link = choice.link
    if link is None:
        return {}
    found = {
        "GLOO_SOCKET_IFNAME": Value(link.name, f"{choice.why}; Gloo takes a whole name"),
        "NCCL_SOCKET_IFNAME": Value(
            f"={link.name}", f"{choice.why}; NCCL takes prefixes, = makes it this one alone"
        ),
    }
    if ":" in choice.address:
        why = f"{choice.address} is an IPv6 address"
        found["NCCL_SOCKET_FAMILY"] = Value("AF_INET6", why)
    elif 6 in link.families:  # noqa: PLR2004 IPv6
        why = f"{link.name} has IPv4 and IPv6 addresses, and the nodes know one another by IPv4"
        found["NCCL_SOCKET_FAMILY"] = Value("AF_INET", why)
    return found


def _serving(choice: Choice, nodes: Sequence[NodeNetwork]) -> dict[str, Value]:
    own = f"its address on {choice.link.name if choice.link else 'the training network'}"
    first = nodes[0]
    return {
        "VLLM_HOST_IP": Value(choice.address, f"{own}; Ray's --node-ip-address must be the same"),
        "SGLANG_HOST_IP": Value(choice.address, f"{own}; ZMQ sockets bind to it"),
        "MASTER_ADDR": Value(
            first.address,
            f"the training address of {first.name}, the first node; --dist-init-addr of SGLang and "
            "--master-addr of vLLM as well",
        ),
    }


def _rdma(node: NodeNetwork, fabric: Fabric, family: int, *, one_plugin: bool) -> dict[str, Value]:
    if fabric.name == "none":
        return {"NCCL_IB_DISABLE": Value("1", "no node has an active InfiniBand or RoCE port")}
    if fabric.name == "mixed":
        return _over_sockets(node, fabric)
    if fabric.name == "efa":
        return {}  # the plugin finds its devices itself
    used = fabric.ports[node.name]
    out = "".join(f"; {port} left out: {why}" for port, why in used.left_out)
    found = {
        "NCCL_IB_DISABLE": Value("0", f"all nodes have {NAMES[fabric.name]}"),
        "NCCL_IB_HCA": Value(
            used.selected, f"the {NAMES[fabric.name]} ports that are up: {used.rates}{out}"
        ),
    }
    if fabric.name == "roce" and used.gid_index is not None:
        why = f"the RoCE v2 GID of the IPv{family} address, on each of these ports"
        found["NCCL_IB_GID_INDEX"] = Value(str(used.gid_index), why)
    elif fabric.name == "roce":
        why = "the index differs between ports: NCCL 2.21 and later find it by version and family"
        found["NCCL_IB_ROCE_VERSION_NUM"] = Value("2", why)
        found["NCCL_IB_ADDR_FAMILY"] = Value("AF_INET6" if family == 6 else "AF_INET", why)  # noqa: PLR2004 IPv6
    if not one_plugin:
        why = "an external plugin is not on all nodes, and does not talk to the built-in one"
        found["NCCL_NET"] = Value("IB", why)
        found["NCCL_IBEXT_DISABLE"] = Value("1", why)
    return found


def _over_sockets(node: NodeNetwork, fabric: Fabric) -> dict[str, Value]:
    has = " and ".join(NAMES[name] for name in fabric.offers[node.name]) or "no RDMA"
    why = f"{node.name} has {has}, which not all nodes have"
    plugin = f"here it is {', '.join(node.plugins)}" if node.plugins else "none is here"
    return {
        "NCCL_NET": Value("Socket", f"{why}; without it, nodes with RDMA wait for it in vain"),
        "NCCL_IB_DISABLE": Value("1", f"{why}; InfiniBand and RoCE both"),
        "NCCL_IBEXT_DISABLE": Value("1", f"an external plugin asks this, and not RoCE; {plugin}"),
    }


def _kept(
    node: NodeNetwork, choice: Choice, derived: Mapping[str, Value]
) -> tuple[dict[str, Value], list[Remark]]:
    """Derived values, but for what the fleet or run file, or the machine, sets: that wins."""
    found: dict[str, Value] = {}
    remarks: list[Remark] = []
    for name, value in derived.items():
        given, preset = node.given.get(name), node.preset.get(name)
        if given:
            found[name] = Value(given[0], f"{given[1]}; derived: {value.value}", FLEET)
        elif node.interface and name in INTERFACE and choice.link:
            found[name] = Value(value.value, value.why, FLEET)
        elif preset:
            found[name] = Value(preset[0], f"{preset[1]} sets it; derived: {value.value}", MACHINE)
            if preset[0].lstrip("=") != value.value.lstrip("="):
                remarks.append(_preset(node, name, value.value))
        else:
            found[name] = value
    return found, remarks


def _preset(node: NodeNetwork, name: str, derived: str) -> Remark:
    value, where = node.preset[name]
    return remark(
        "machine_says_otherwise",
        Severity.NOTE,
        f"{name}={derived}, as facts say",
        f"{name}={value}",
        f"{node.name}: {where}",
        f"nothing, if it is so on purpose; else take it away there, or set {name} in env of the "
        "fleet file",
    )
