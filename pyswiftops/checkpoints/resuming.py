"""Where a training that did not end goes on: pure, on what its nodes tell.

Nodes tell with the modules ``job`` and ``checkpoint_ledger``. A checkpoint is whole if all nodes
that are there together hold what its index names, each file at least as long as the index asks, and
the small files that rank 0 writes beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

ALIVE = frozenset({"starting", "running"})
SUCCEEDED, ABSENT = "succeeded", "absent"
INDEX, TRACKER = ".metadata", "latest_checkpointed_iteration.txt"
BESIDE = ("args.json", TRACKER)
SHOWN = 3

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that training could go on from.

    Attributes:
        iteration: The step that it was saved after.
        holder: The node whose index, tracker and arguments count; "" where none has them.
        lacking: Why it cannot be gone on from; empty where it can.
    """

    iteration: int
    holder: str
    lacking: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As run files name it."""
        return f"checkpoint-{self.iteration}"


class How(StrEnum):
    """How training is started again."""

    JOIN = "join"
    BEGIN = "begin"
    CONTINUE = "continue"


@dataclass(frozen=True)
class Decision:
    """What to do with a training that was begun before.

    Attributes:
        how: The answer.
        detail: The same as a sentence, with later checkpoints that are not whole.
        checkpoint: What it goes on from.
    """

    how: How
    detail: str
    checkpoint: Candidate | None = None


def decide(jobs: Mapping[str, str], found: Iterable[Candidate], total: int) -> Decision:
    """Join what runs, go on from the last whole checkpoint, or begin.

    Args:
        jobs: Node -> how its training job stands, for the nodes that answer.
        found: Checkpoints of this run, in any order.
        total: How many nodes the run has.
    """
    states = set(jobs.values())
    if len(jobs) == total and states and states <= ALIVE | {SUCCEEDED}:
        return Decision(How.JOIN, "training goes on where it is")
    if states <= {ABSENT} and not found:
        return Decision(How.BEGIN, "training had not begun")
    newest = sorted(found, key=lambda item: (item.iteration, not item.lacking), reverse=True)
    whole = next((item for item in newest if not item.lacking), None)
    passed = [
        f"{item.name} is not whole: {_some(item.lacking)}"
        for item in newest
        if item.lacking and (whole is None or item.iteration > whole.iteration)
    ]
    notes = "".join(f"; {note}" for note in dict.fromkeys(passed))
    if whole is None:
        return Decision(How.BEGIN, f"no checkpoint is whole, training begins again{notes}")
    return Decision(How.CONTINUE, f"training goes on from {whole.name}{notes}", whole)


def candidates(told: Mapping[str, Record], folders: Mapping[str, Sequence[str]]) -> list[Candidate]:
    """The checkpoints of one run over all nodes that answer.

    Args:
        told: Node -> what the module ``checkpoint_ledger`` returned there, in rank order.
        folders: Node -> training's output folder, and the folder of what it went on from before.
    """
    groups: dict[tuple[int, int], dict[str, Record]] = {}
    for node, answer in told.items():
        for record in answer["checkpoints"]:
            place = list(folders[node]).index(record["root"])
            if record["iter_dir"] is None or record["merged"] or record["iteration"] is None:
                continue
            groups.setdefault((place, int(record["iteration"])), {})[node] = record
    return [candidate(iteration, copies) for (_, iteration), copies in groups.items()]


def candidate(iteration: int, copies: Mapping[str, Record]) -> Candidate:
    """One checkpoint from what each node holds of it."""
    holder = next((node for node, copy in copies.items() if copy["index_digest"]), "")
    if not holder:
        return Candidate(iteration, "", (f"{INDEX} on no node that answers",))
    digests = {copy["index_digest"] for copy in copies.values() if copy["index_digest"]}
    lacking = [f"nodes have different {INDEX}"] if len(digests) > 1 else []
    if not copies[holder]["needed"]:
        lacking.append(f"{INDEX} on {holder} is none that training wrote")
    if copies[holder]["has_optimizer"] is False:
        lacking.append("it was saved without an optimizer (output.save_optimizer)")
    own = set(copies[holder]["files"])
    folder = PurePosixPath(copies[holder]["iter_dir"]).name
    lacking += [
        f"no {name} on {holder}" for name in (*BESIDE, f"{folder}/metadata.json") if name not in own
    ]
    for name, least in copies[holder]["needed"].items():
        sizes = [_size(copy, name) for copy in copies.values()]
        if max(sizes) < max(1, int(least)):
            lacking.append(f"{name} on no node that answers" if max(sizes) < 0 else f"{name} short")
    return Candidate(iteration, holder, tuple(lacking))


def _size(copy: Record, name: str) -> int:
    """Bytes of a file that a node holds whole; -1 where it does not."""
    if name in copy["half"] or name in copy["damaged"] or name not in copy["files"]:
        return -1
    return int(copy["files"][name]["size"])


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
