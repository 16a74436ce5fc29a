"""Which rank holds a hung job up, out of what its nodes saw (module_utils/hang_report.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Functions in which a rank waits for others: torch.distributed's, Megatron's pipeline, CUDA's.
_WAITING = re.compile(
    r"^(all_reduce|all_gather|reduce_scatter|all_to_all|broadcast|scatter|gather|reduce|barrier"
    r"|monitored_barrier|recv|irecv|send|isend|batch_isend_irecv|_communicate|synchronize"
    r"|_?p2p_ops)\w* \(|torch/distributed/|p2p_communication"
)


@dataclass(frozen=True)
class Suspect:
    """The rank that the others wait for.

    Attributes:
        rank: Its global rank.
        node: Its node, or "" where it has no process.
        why: What sets it apart.
    """

    rank: int
    node: str
    why: str

    def __str__(self) -> str:
        place = f" on {self.node}" if self.node else ""
        return f"rank {self.rank}{place} {self.why}"


def _waits_in(rank: Mapping[str, Any]) -> str:
    """The outermost call of a rank's wait for others, or ""."""
    waiting = [frame for frame in rank["frames"] if _WAITING.search(frame)]
    return str(waiting[-1]) if waiting else ""


def suspect(reports: Mapping[str, Mapping[str, Any]]) -> Suspect | None:
    """The rank that holds the others up; None where nothing sets one apart.

    A rank without a process comes first, then one that is stopped, then one that sleeps in the
    kernel, then one that is not where the others wait for it.

    Args:
        reports: node -> its report.
    """
    ranks = sorted(
        (
            (rank["rank"], node, rank)
            for node, report in reports.items()
            for rank in report["ranks"]
        ),
        key=lambda item: item[0],
    )
    world = max((int(report["world_size"]) for report in reports.values()), default=0)
    missing = sorted(set(range(world)) - {rank for rank, _, _ in ranks})
    if missing and ranks:
        return Suspect(missing[0], "", "has no process on any node that was heard of")
    for state, why in (
        ("gone", "ended while the others waited"),
        ("T", "is stopped (state T, as after SIGSTOP)"),
        ("D", "sleeps in the kernel (state D): a disk, a network mount or a device"),
    ):
        for number, node, rank in ranks:
            if rank["state"] == state:
                return Suspect(number, node, why)
    return _elsewhere([item for item in ranks if item[2]["frames"]])


def _elsewhere(ranks: list[tuple[int, str, Mapping[str, Any]]]) -> Suspect | None:
    waits = {number: _waits_in(rank) for number, _, rank in ranks}
    places = sorted({place for place in waits.values() if place})
    for number, node, rank in ranks:
        if places and not waits[number]:
            top = rank["frames"][0]
            why = f"never entered {places[0]}, where others wait: it is in {top}"
            return Suspect(number, node, why)
    if len(places) > 1:  # all wait, but not for the same: the fewest are taken for the strayed
        count = {place: list(waits.values()).count(place) for place in places}
        strayed = min(places, key=lambda place: (count[place], place))
        most = max(places, key=lambda place: (count[place], place))
        if count[strayed] < count[most]:
            number, node, _ = next(item for item in ranks if waits[item[0]] == strayed)
            return Suspect(number, node, f"waits in {strayed}, while the others wait in {most}")
    return None


def text(job: str, reports: Mapping[str, Mapping[str, Any]]) -> str:
    """All reports as a page to read."""
    found = suspect(reports)
    lines = [f"job {job} hung", f"held up by: {found or 'no rank stands out'}", ""]
    for node, report in sorted(reports.items()):
        for rank in report["ranks"]:
            busy = "used CPU" if rank["used_cpu"] else "used no CPU"
            head = f"rank {rank['rank']} on {node}: process {rank['pid']}, state {rank['state']}"
            lines.append(f"{head}, {busy} while it was looked at")
            lines += [f"    {frame}" for frame in rank["frames"]] or ["    no stack"]
        lines.append(f"last lines of NCCL, Gloo and process groups on {node}:")
        lines += [f"    {line}" for line in report["lines"]] or ["    none"]
        lines.append("")
    return "\n".join(lines)
