"""What ``check-fabric`` tells: numbers, faults, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyswiftops.fabric.readings import Link, Readings, Sum
from pyswiftops.fabric.verdicts import Fault


@dataclass(frozen=True)
class FabricReport:
    """What was measured and what is wrong with it.

    Attributes:
        readings: The numbers.
        faults: What is wrong; nothing where all is well.
        seconds: How long it took.
    """

    readings: Readings
    faults: tuple[Fault, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: rates in bytes a second, times in seconds."""
        told = self.readings
        return {
            "ok": self.ok,
            "backend": told.backend,
            "nodes": list(told.nodes),
            "faults": [fault.to_dict() for fault in self.faults],
            "all_reduce": [_sum(item) for item in told.sums],
            "pairs": [_link(*item) for item in told.links.items()],
            "network": {node: way.network for node, way in told.ways.items()},
            "seconds": round(self.seconds, 1),
        }


def _sum(item: Sum) -> dict[str, Any]:
    sizes = [
        {"bytes": size, "seconds": time, "algbw": size / time, "busbw": item.bus(size)}
        for size, time in item.seconds.items()
    ]
    return {
        "nodes": list(item.nodes), "ranks": item.ranks, "sizes": sizes, "broken": item.broken,
    }  # fmt: skip


def _link(direction: tuple[str, str], link: Link) -> dict[str, Any]:
    return {
        "from": direction[0],
        "to": direction[1],
        "rate": link.rate,
        "latency": link.latency,
        "worst_latency": link.worst,
        "sent_again": link.again,
        "broken": link.broken,
    }


def sizes_table(item: Sum) -> list[tuple[str, str, str, str]]:
    """Message size, time, algbw and busbw of an all-reduce, as nccl-tests print them."""
    return [
        (
            size_text(size),
            f"{time * 1e6:.0f}",
            f"{size / time / 1e9:.3f}",
            f"{item.bus(size) / 1e9:.3f}",
        )
        for size, time in item.seconds.items()
    ]


def matrix(nodes: Sequence[str], links: Mapping[tuple[str, str], Link]) -> list[list[str]]:
    """A row a sender: its name, then GB/s to each node."""
    return [[one, *(_cell(links.get((one, two)), same=one == two) for two in nodes)]
            for one in nodes]  # fmt: skip


def _cell(link: Link | None, *, same: bool) -> str:
    if same:
        return "-"
    if link is not None and link.broken:
        return "broken"
    return "?" if link is None or link.rate is None else f"{link.rate / 1e9:.3g}"


def latencies(links: Mapping[tuple[str, str], Link]) -> str:
    """The least, the median and the largest latency of all pairs, in microseconds."""
    known = sorted(link.latency for link in links.values() if link.latency is not None)
    if not known:
        return "not measured"
    told = (known[0], known[len(known) // 2], known[-1])
    return "{:.0f} / {:.0f} / {:.0f} us".format(*(value * 1e6 for value in told))


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size_text(size: int) -> str:
    """1048576 -> 1M."""
    for unit, factor in reversed(_UNITS.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_size(text: str) -> int | None:
    """1M -> 1048576; None where it is no size of 4 bytes to 8 GiB."""
    words = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = words[-1:] if words[-1:] in {"K", "M", "G"} else ""
    number = words.removesuffix(unit)
    size = int(number) * _UNITS[unit] if number.isascii() and number.isdigit() else 0
    return size if 4 <= size <= 8 << 30 else None  # noqa: PLR2004 one element, and what fits a GPU
