"""What nodes measured, put together: all-reduces, and one link for each direction of each pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyswiftops.fabric.nccl_log import SOCKET, Ways, ways
from pyswiftops.fabric.node.counters import AGAIN, SENT
from pyswiftops.fabric.node.ranks import TIME_UP
from pyswiftops.fabric.schedule import ALL_REDUCE, PAIR

Direction = tuple[str, str]
FEW = 20  # segments sent again that say nothing yet


@dataclass(frozen=True)
class Link:
    """One direction of a pair of nodes.

    Attributes:
        rate: Bytes a second of all ranks together, as the slowest of them goes; None: not measured.
        latency: Seconds of half a round trip of 8 bytes, the median; None: not measured.
        worst: The longest of them.
        again: Share of TCP segments that were sent again; 0 where data go another way.
        errors: What RDMA ports counted meanwhile.
        slowest: The rank that was slowest, where it differs much from the others.
        broken: Why nothing came through; "" if it did.
    """

    rate: float | None = None
    latency: float | None = None
    worst: float | None = None
    again: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    slowest: int | None = None
    broken: str = ""

    def better(self, other: Link) -> Link:
        """Of two looks at it what speaks for it: other work only ever makes a link slower.

        A break stays one.
        """
        if other.broken or self.broken:
            return self if self.broken else other
        return replace(
            other,
            rate=_of(max, self.rate, other.rate),
            latency=_of(min, self.latency, other.latency),
            worst=_of(min, self.worst, other.worst),
            again=min(self.again, other.again),
        )


@dataclass(frozen=True)
class Sum:
    """An all-reduce over a group of nodes.

    Attributes:
        nodes: Who.
        ranks: How many ranks in all.
        seconds: Message size in bytes -> seconds of the slowest rank.
        broken: Why it did not come to an end; "" if it did.
    """

    nodes: tuple[str, ...]
    ranks: int = 0
    seconds: Mapping[int, float] = field(default_factory=dict)
    broken: str = ""

    def bus(self, size: int) -> float:
        """Bus bandwidth in bytes a second, as nccl-tests define it: S / t * 2 (n - 1) / n.

        Source: nccl-tests, ``doc/PERFORMANCE.md``; it is comparable whatever the ranks are.
        """
        return size / self.seconds[size] * 2 * (self.ranks - 1) / self.ranks

    @property
    def rate(self) -> float:
        """The best bus bandwidth of all sizes; 0 where there is none."""
        return max(map(self.bus, self.seconds), default=0.0)


@dataclass(frozen=True)
class Readings:
    """Everything that was measured.

    Attributes:
        nodes: All nodes in rank order.
        backend: ``nccl`` or ``gloo``.
        sums: All-reduces, the largest first.
        links: (from, to) -> link.
        silent: Node -> why it told nothing.
        ways: Node -> NCCL's ways between it and others.
        cards: Node -> its RDMA devices, whether used or not.
    """

    nodes: tuple[str, ...]
    backend: str
    sums: tuple[Sum, ...] = ()
    links: Mapping[Direction, Link] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, Ways] = field(default_factory=dict)
    cards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read(
    nodes: Sequence[str], backend: str, looks: Iterable[Mapping[str, Mapping[str, Any]]]
) -> Readings:
    """Put together what nodes wrote.

    Args:
        nodes: In rank order.
        backend: ``nccl`` or ``gloo``.
        looks: For each look, node -> what its program wrote; a node that wrote nothing has
            ``error`` alone.
    """
    sums: list[Sum] = []
    links: dict[Direction, Link] = {}
    silent: dict[str, str] = {}
    lines: dict[str, list[str]] = {node: [] for node in nodes}
    cards: dict[str, tuple[str, ...]] = {}
    for look in looks:
        for node, told in look.items():
            cards[node] = tuple(told.get("cards", ()))
            if "error" in told:
                silent[node] = str(told["error"])
        for records in _by_round(look):
            for node, record in records.items():
                lines[node] += record.get("nccl", ())
            first = next(iter(records.values()))
            if first["kind"] == ALL_REDUCE:
                sums.append(_sum(first["nodes"], records))
            elif first["kind"] == PAIR:
                for direction, link in _pair(first["nodes"], records, backend).items():
                    links[direction] = links[direction].better(link) if direction in links else link
    told_ways = {node: ways(texts) for node, texts in lines.items() if texts}
    return Readings(tuple(nodes), backend, tuple(sums), links, silent, told_ways, cards)


def _by_round(look: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Records of one group in one round, by node, rounds in turn."""
    found: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for node, told in look.items():
        for record in told.get("rounds", ()):
            found.setdefault((record["round"], *record["nodes"]), {})[node] = record
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _sum(nodes: Sequence[str], records: Mapping[str, Mapping[str, Any]]) -> Sum:
    ranks = [rank for record in records.values() for rank in record.get("ranks", ())]
    by_rank = [{line["size"]: line["seconds"] for line in _sized(rank)} for rank in ranks]
    every = set.intersection(*map(set, by_rank)) if by_rank else set()
    seconds = {size: max(times[size] for times in by_rank) for size in sorted(every)}
    return Sum(tuple(nodes), len(ranks), seconds, _why(nodes, records))


def _why(nodes: Sequence[str], records: Mapping[str, Mapping[str, Any]]) -> str:
    """What kept a group from going through its round; its own first, then what it heard."""
    whys = [f"{node} told nothing of it" for node in nodes if node not in records]
    for node, record in records.items():
        if "unmet" in record:
            whys.append(str(record["unmet"]))
        whys += [f"{node}: {_ending(rank)}" for rank in record.get("ranks", ()) if rank["end"]]
    return next(iter(sorted(dict.fromkeys(whys), key=lambda why: " ended" in why)), "")


def _ending(rank: Mapping[str, Any]) -> str:
    last = _phase(rank)
    return f"stuck in {last}" if rank["end"] == TIME_UP else f"{rank['end']} (in {last})"


def _phase(rank: Mapping[str, Any]) -> str:
    phases = [line["phase"] for line in rank["lines"] if "phase" in line]
    return str(phases[-1]) if phases else "its start"


def _sized(rank: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [line for line in rank["lines"] if "size" in line]


def _ranks(record: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((record or {}).get("ranks", ()))


def _best(rank: Mapping[str, Any]) -> float:
    """Bytes a second at the better of the two largest sizes; 0 if it sent none.

    A small message may pass a limited link whole within its burst, so it says nothing of its rate.
    """
    lines = sorted(_sized(rank), key=lambda line: line["size"])[-2:]
    return max((line["size"] / line["seconds"] for line in lines), default=0.0)


def _pair(
    nodes: Sequence[str], records: Mapping[str, Mapping[str, Any]], backend: str
) -> dict[Direction, Link]:
    one, two = nodes
    why = _why(nodes, records)
    found = {}
    times = [line for rank in _ranks(records.get(one)) for line in rank["lines"]]
    trips = [line for line in times if "latency" in line]
    for source, target in ((one, two), (two, one)):
        record = records.get(source, {})
        rails: list[float] = [_best(rank) for rank in _ranks(record)]
        rate = len(rails) * min(*rails, rails[0]) or None if rails else None
        counted = record.get("counted", {})
        found[source, target] = Link(
            rate=rate,
            latency=max((line["latency"] for line in trips), default=None),
            worst=max((line["worst"] for line in trips), default=None),
            again=_again(counted) if _by_sockets(record, backend) else 0.0,
            errors={name: value for name, value in counted.items() if "/" in name},
            slowest=_slowest(rails),
            broken=why if why and _stuck(source, target, records, measured=rate) else "",
        )
    return found


def _stuck(
    source: str, target: str, records: Mapping[str, Mapping[str, Any]], *, measured: float | None
) -> bool:
    """Whether a failure concerns this direction: not if the other one was under way."""
    phases = {
        node: [_phase(rank) for rank in record.get("ranks", ()) if rank["end"]]
        for node, record in records.items()
    }
    this = any(p.startswith("sending") for p in phases.get(source, ())) or any(
        p.startswith("receiving") for p in phases.get(target, ())
    )
    other = any(p.startswith("sending") for p in phases.get(target, ())) or any(
        p.startswith("receiving") for p in phases.get(source, ())
    )
    return this or not (other and measured)


def _again(counted: Mapping[str, int]) -> float:
    again = counted.get(AGAIN, 0)
    return again / max(counted.get(SENT, 0), 1) if again >= FEW else 0.0


def _by_sockets(record: Mapping[str, Any], backend: str) -> bool:
    return backend == "gloo" or SOCKET in ways(record.get("nccl", ())).staged


def _slowest(rails: Sequence[float]) -> int | None:
    """The rank that is slower than 0.7 of the median of several."""
    if len(rails) < 3:  # noqa: PLR2004 of two none is the odd one
        return None
    middle = sorted(rails)[len(rails) // 2]
    return rails.index(min(rails)) if min(rails) < 0.7 * middle else None


def _of(choose: Any, one: float | None, two: float | None) -> float | None:
    known = [value for value in (one, two) if value is not None]
    return choose(known) if known else None
