"""Which node or pair is slow, lossy or broken: pure, on what was measured.

A link is held against the upper quartile of its kind (same host, or not), not against the median:
in a fleet of three with one bad node two thirds of all links are bad. The thresholds, and why:

- ``SLOW``: below 0.7 of it with NCCL. Healthy RDMA links of one fleet differ by less than 0.1; the
  usual faults halve a link or worse (one of two ports lost, PCIe x8 for x16, no GPUDirect). Gloo is
  limited by processors, which others use too, and differs by a factor of two on a quiet machine;
  its faults (a wrong network card, 1 for 10 Gbit/s) are larger than the factor of 3 that is asked.
- ``LATE``: a latency of three times the lower quartile (Gloo: ten times, for the same reason), and
  more than ``LATE_BY`` above it, so that microseconds are no fault.
- ``LOSSY``: TCP sent one of 200 segments again. A healthy network loses less than one of 10,000;
  a busy node's timers send some again that were not lost, seen up to one of 1,400. At one of 200
  and 0.1 ms a flow has at most some 250 MB/s (Mathis et al., 1997: MSS / RTT * 1.22 / sqrt(p)).
- ``WHOLE``: with NCCL, an all-reduce over everybody below half of the slowest of its halves. Bus
  bandwidth does not depend on the number of ranks, so something between the halves is narrow.
- ``MOST``: a node is named rather than its pairs if three quarters of its links one way, and two at
  least, are bad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyswiftops.fabric.readings import Direction, Link, Readings, Sum
from pyswiftops.fabric.schedule import Pair

SLOW = {"nccl": 0.7, "gloo": 1 / 3}
LATE = {"nccl": 3.0, "gloo": 10.0}
LATE_BY = {"nccl": 20e-6, "gloo": 2e-3}
LOSSY = 0.005
WHOLE = 0.5
MOST = 0.75
OFF = ("NCCL_IB_DISABLE", "NCCL_NET", "NCCL_NET_GDR_LEVEL", "NCCL_NET_GDR_READ")

PORTS = "let all TCP ports between these addresses through the firewall, not only some"
LOOK = "look at cable, port and switch: ethtool -S INTERFACE, ibstat, and the switch's counters"


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the network.

    Attributes:
        kind: ``silent``, ``broken``, ``slow``, ``late``, ``lossy``, ``errors``, ``gpudirect``,
            ``sockets`` or ``whole``.
        nodes: Who: one node, or the two of a pair.
        where: The same in words, with the direction.
        expected: What would have been right.
        found: What was measured instead.
        remedy: What to do.
    """

    kind: str
    nodes: tuple[str, ...]
    where: str
    expected: str
    found: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """What links are held against beside one another.

    Attributes:
        hosts: Node -> the machine that it is on.
        least: Bytes a second that every link must reach; 0 where nobody said.
        gpudirect: Whether RDMA without GPUDirect is a fault.
    """

    hosts: Mapping[str, str]
    least: float = 0.0
    gpudirect: bool = True


@dataclass(frozen=True)
class Blame:
    """Who is to blame for some bad links."""

    nodes: tuple[str, ...]
    where: str
    links: tuple[Direction, ...]


def faults(readings: Readings, limits: Limits) -> list[Fault]:
    """Everything that is wrong, broken things first; none where nothing is."""
    found = [
        Fault("silent", (node,), node, "a node that measures", why, f"swiftops shell {node}")
        for node, why in readings.silent.items()
    ]
    found += _broken(readings) + _slow(readings, limits) + _late(readings, limits)
    found += _lossy(readings) + _errors(readings)
    found += _ways(readings, limits)
    return found + _whole(readings, found)


def suspects(readings: Readings, limits: Limits) -> list[Pair]:
    """Pairs to look at once more before they are named, in rank order."""
    bad = {*slow_links(readings, limits), *late_links(readings, limits), *lossy_links(readings)}
    place = {node: index for index, node in enumerate(readings.nodes)}
    pairs = {(one, two) if place[one] < place[two] else (two, one) for one, two in bad}
    return sorted(pairs, key=lambda pair: (place[pair[0]], place[pair[1]]))


# What is bad.


def slow_links(readings: Readings, limits: Limits) -> dict[Direction, float]:
    """Links that are slow -> what they are held against, in bytes a second."""
    reference = _references(readings, limits, lambda link: link.rate, 0.75)
    bad = {}
    for direction, link in readings.links.items():
        if link.rate is None or link.broken:
            continue
        usual = reference[_class(direction, limits)]
        if link.rate < limits.least:
            bad[direction] = limits.least
        elif link.rate < SLOW[readings.backend] * usual:
            bad[direction] = usual
    return bad


def late_links(readings: Readings, limits: Limits) -> dict[Direction, float]:
    """Links whose latency is high -> what it is held against, in seconds."""
    reference = _references(readings, limits, lambda link: link.latency, 0.25)
    factor, by = LATE[readings.backend], LATE_BY[readings.backend]
    bad = {}
    for direction, link in readings.links.items():
        if link.latency is None or link.broken:
            continue
        usual = reference[_class(direction, limits)]
        if link.latency > max(factor * usual, usual + by):
            bad[direction] = usual
    return bad


def lossy_links(readings: Readings) -> dict[Direction, float]:
    """Links that lose segments -> the share."""
    return {one: link.again for one, link in readings.links.items() if link.again >= LOSSY}


def _class(direction: Direction, limits: Limits) -> bool:
    """Whether both ends are on one machine."""
    one, two = (limits.hosts.get(node, node) for node in direction)
    return one == two


def _references(
    readings: Readings, limits: Limits, value: Callable[[Link], float | None], share: float
) -> dict[bool, float]:
    """Same machine or not -> the quantile of what such links have."""
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for direction, link in readings.links.items():
        known = value(link)
        if known is not None and not link.broken:
            kinds[_class(direction, limits)].append(known)
    return {kind: _quantile(sorted(values), share) for kind, values in kinds.items()}


def _quantile(values: list[float], share: float) -> float:
    return values[round(share * (len(values) - 1))] if values else 0.0


# Who is to blame.


def blame(bad: Iterable[Direction], measured: Iterable[Direction]) -> list[Blame]:
    """The fewest nodes and pairs that bad links can be laid upon, nodes first.

    Args:
        bad: Links that are bad.
        measured: All links that were measured, the bad ones with them.
    """
    left, known = set(bad), set(measured) | set(bad)
    nodes = sorted({node for link in known for node in link})
    if len(nodes) > 2 and left and len(left) == len(known):  # noqa: PLR2004 more than a pair
        return [Blame(tuple(nodes), "every pair", tuple(sorted(left)))]
    found = []
    while left:
        choices = [_laid_on(node, left, known) for node in nodes]
        best = max(
            (item for item in choices if item), key=lambda item: len(item.links), default=None
        )
        if best is None:
            break
        found.append(best)
        left -= set(best.links)
        known = {link for link in known if best.nodes[0] not in link}
    return found + _pairs(left)


def _laid_on(node: str, left: set[Direction], known: set[Direction]) -> Blame | None:
    sends = _most(0, node, left, known)
    receives = _most(1, node, left, known)
    links = tuple(sorted({*sends, *receives}))
    if not links:
        return None
    way = "" if sends and receives else " sending" if sends else " receiving"
    return Blame((node,), f"{node}{way}", links)


def _most(end: int, node: str, left: set[Direction], known: set[Direction]) -> list[Direction]:
    """The bad links of a node one way, where they are most of all."""
    bad = [link for link in left if link[end] == node]
    every = [link for link in known if link[end] == node]
    return bad if len(bad) >= max(2, MOST * len(every)) else []


def _pairs(left: set[Direction]) -> list[Blame]:
    found = []
    for one, two in sorted(left):
        back = (two, one)
        if back in left and back < (one, two):
            continue
        sign, links = ("<->", ((one, two), back)) if back in left else ("->", ((one, two),))
        found.append(Blame((one, two), f"{one} {sign} {two}", links))
    return found


# What to say.


def _broken(readings: Readings) -> list[Fault]:
    bad = {one: link.broken for one, link in readings.links.items() if link.broken}
    found = []
    for item in blame(bad, readings.links):
        if set(item.nodes) <= set(readings.silent):
            continue
        why = max((bad[link] for link in item.links), key=len)
        found.append(
            Fault("broken", item.nodes, item.where, "an answer", _more(why, item), _mend(why))
        )
    return found


def _mend(why: str) -> str:
    if "stuck in connections" in why:
        return f"ranks choose their ports themselves: {PORTS}"
    if "stuck in sending" in why or "stuck in receiving" in why:
        return "small messages pass and large ones do not: compare MTUs (ip link) and flow control"
    return f"look at routes (ip route get ADDRESS), and {PORTS}"


def _more(text: str, item: Blame) -> str:
    """With a word on how many links it was seen."""
    return text if len(item.nodes) == 2 else f"{text} ({len(item.links)} links)"  # noqa: PLR2004


def _slow(readings: Readings, limits: Limits) -> list[Fault]:
    bad = slow_links(readings, limits)
    found = []
    for item in blame(bad, _sound(readings)):
        links = [readings.links[link] for link in item.links]
        rate = min(link.rate or 0.0 for link in links)
        again = max(link.again for link in links)
        ranks = sorted({link.slowest for link in links if link.slowest is not None})
        text = f"{_rate(rate)}, {rate / bad[item.links[0]]:.2f} of it"
        text += f"; rank {', '.join(map(str, ranks))} of the node alone" if ranks else ""
        text += f"; {again:.1%} of segments were sent again" if again >= LOSSY else ""
        usual = _rate(max(bad[link] for link in item.links))
        found.append(
            Fault("slow", item.nodes, item.where, f"about {usual}", _more(text, item), LOOK)
        )
    return found


def _late(readings: Readings, limits: Limits) -> list[Fault]:
    bad = late_links(readings, limits)
    found = []
    for item in blame(bad, _sound(readings)):
        latency = max(readings.links[link].latency or 0.0 for link in item.links)
        usual = max(bad[link] for link in item.links)
        text = f"{latency * 1e6:.0f} us for a small message"
        expected = f"about {usual * 1e6:.0f} us"
        remedy = "another way through the network, or a busy node: tracepath ADDRESS, uptime"
        found.append(Fault("late", item.nodes, item.where, expected, _more(text, item), remedy))
    return found


def _lossy(readings: Readings) -> list[Fault]:
    bad = lossy_links(readings)
    found = []
    for item in blame(bad, _sound(readings)):
        share = max(bad[link] for link in item.links)
        text = f"{share:.1%} of TCP segments were sent again"
        expected = f"less than {LOSSY:.1%}"
        found.append(Fault("lossy", item.nodes, item.where, expected, _more(text, item), LOOK))
    return found


def _errors(readings: Readings) -> list[Fault]:
    by_node: dict[str, dict[str, int]] = {}
    for (node, _), link in readings.links.items():
        for name, count in link.errors.items():
            told = by_node.setdefault(node, {})
            told[name] = told.get(name, 0) + count
    return [
        Fault(
            "errors",
            (node,),
            node,
            "no errors of RDMA ports",
            ", ".join(f"{name} +{count}" for name, count in sorted(told.items())),
            LOOK,
        )
        for node, told in by_node.items()
    ]


def _ways(readings: Readings, limits: Limits) -> list[Fault]:
    found = []
    for node, way in readings.ways.items():
        chosen = [f"{name}={way.settings[name]}" for name in OFF if name in way.settings]
        if limits.gpudirect and way.bypass in {"none", "some"}:
            found.append(
                Fault(
                    "gpudirect",
                    (node,),
                    node,
                    "GPUDirect RDMA: via NET/IB/0/GDRDMA",
                    f"{way.bypass} of the channels over {', '.join(way.rdma)} use it; "
                    + (
                        f"set: {', '.join(chosen)}"
                        if chosen
                        else f"disabled for {', '.join(way.disabled)}"
                        if way.disabled
                        else "NCCL says nothing more"
                    ),
                    "modprobe nvidia_peermem, or a driver with open kernel modules and Linux 5.12 "
                    "(DMA-BUF); PCIe ACS off; --no-gpudirect where the GPUs have none",
                )
            )
        elif way.network == "Socket" and readings.cards.get(node) and not chosen:
            found.append(
                Fault(
                    "sockets",
                    (node,),
                    node,
                    f"RDMA over {', '.join(readings.cards[node])}",
                    "NCCL uses sockets",
                    "give the container /dev/infiniband and memlock, see that ports are active "
                    "(ibstat); NCCL_NET=Socket in env of the fleet file where this is meant",
                )
            )
    return found


def _whole(readings: Readings, found: Iterable[Fault]) -> list[Fault]:
    """All-reduces that are bad though no link in them is."""
    named = {node for fault in found for node in fault.nodes}
    bad = {item.nodes: item.broken for item in readings.sums if item.broken} | _narrow(readings)
    smallest = [
        nodes
        for nodes in bad
        if not named & set(nodes) and not any(set(other) < set(nodes) for other in bad)
    ]
    return [
        Fault(
            "whole",
            nodes,
            f"{nodes[0]} to {nodes[-1]}, {len(nodes)} nodes",
            "an all-reduce as fast as its links",
            bad[nodes],
            "links that are good one by one and not together: look at what they share, such as a "
            "switch or its uplinks",
        )
        for nodes in smallest
    ]


def bad_groups(readings: Readings) -> list[str]:
    """Nodes of the smallest groups whose all-reduce is broken, or slow beside its neighbours'."""
    return [node for nodes in _smallest(_bad_sums(readings)) for node in nodes]


def _bad_sums(readings: Readings) -> dict[tuple[str, ...], str]:
    broken = {item.nodes: item.broken for item in readings.sums if item.broken}
    return broken | _narrow(readings) | _behind(readings)


def _smallest(bad: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    every = list(bad)
    return [nodes for nodes in every if not any(set(other) < set(nodes) for other in every)]


def _behind(readings: Readings) -> dict[tuple[str, ...], str]:
    """Groups that are slow beside others of their size, as each level of a bisection has them."""
    bad = {}
    for item in readings.sums:
        peers = [other for other in readings.sums if abs(len(other.nodes) - len(item.nodes)) <= 1]
        usual = max((other.rate for other in peers), default=0.0)
        if item.rate and item.rate < SLOW[readings.backend] * usual:
            bad[item.nodes] = f"{_rate(item.rate)}, and others of its size {_rate(usual)}"
    return bad


def _narrow(readings: Readings) -> dict[tuple[str, ...], str]:
    if readings.backend != "nccl":
        return {}
    bad = {}
    sums = {item.nodes: item for item in readings.sums if item.rate}
    for nodes, item in sums.items():
        parts = [other for name, other in sums.items() if set(name) < set(nodes)]
        if len(parts) > 1 and item.rate < WHOLE * min(part.rate for part in parts):
            bad[nodes] = f"{_rate(item.rate)}, and its parts {_rates(parts)}"
    return bad


def _rates(parts: Iterable[Sum]) -> str:
    return ", ".join(_rate(part.rate) for part in parts)


def _sound(readings: Readings) -> list[Direction]:
    return [direction for direction, link in readings.links.items() if not link.broken]


def _rate(value: float) -> str:
    return f"{value / 1e9:.3g} GB/s"
