"""Which checkpoints of a training are kept, which may go, and why. Pure.

What never goes, whatever is asked for: one that a process or a job uses, the newest of a training
that goes on, the newest complete one of each training, one that is being written, one that a link
or a tracker names, one that is in conflict, and every folder that is no checkpoint that a training
saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyswiftops.checkpoints.ledger import ADOPTED, TRAIN, Checkpoint, Ledger
from pyswiftops.errors import BadInputError, Finding

Key = tuple[str, str]
_SAVED = re.compile(r"(?:.*/)?(?:checkpoint-\d+(?:-merged)?|iter_\d+)", re.DOTALL)


@dataclass(frozen=True)
class Keep:
    """What is asked to be kept of each training.

    Attributes:
        last: The newest complete ones, so many.
        best: The best one, by what the training tells.
        every: Those whose iteration is a multiple of it; None for none.
    """

    last: int = 1
    best: bool = False
    every: int | None = None

    def __post_init__(self) -> None:
        for flag, value in (("--keep-last", self.last), ("--keep-every", self.every)):
            if value is not None and value < 1:
                raise BadInputError(
                    Finding("a number from 1 on", str(value), flag, "the newest one never goes")
                )


@dataclass(frozen=True)
class InUse:
    """What is at work on the checkpoints.

    Attributes:
        training: Why the training counts as living; empty if it has ended.
        checkpoints: Checkpoint, by its key -> why it is needed.
        unnamed: Why checkpoints are needed of which it is not known which ones: all stay.
    """

    training: str = ""
    checkpoints: Mapping[Key, str] = field(default_factory=dict)
    unnamed: str = ""


@dataclass(frozen=True)
class Choice:
    """What becomes of a checkpoint.

    Attributes:
        checkpoint: The checkpoint.
        keep: Whether it stays.
        reason: Why.
    """

    checkpoint: Checkpoint
    keep: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "title": self.checkpoint.title,
            "keep": self.keep,
            "reason": self.reason,
            "nodes": {
                item.node: {"path": item.path, "bytes": item.own_bytes}
                for item in self.checkpoint.holdings
            },
        }


def decide(ledger: Ledger, keep: Keep, in_use: InUse) -> tuple[Choice, ...]:
    """Say of each checkpoint whether it stays, and why; one that goes has reason ``old``.

    Args:
        ledger: All checkpoints, of nodes that have all answered.
        keep: What is asked for.
        in_use: What is at work on them.

    Raises:
        BadInputError: a node did not answer, or the best one is to be kept of a training that does
            not tell which one that is.
    """
    if ledger.silent:
        raise BadInputError(
            [
                Finding("an answer of every node", text, node, "see docs/how-to/reach-nodes.md")
                for node, text in ledger.silent.items()
            ]
        )
    trainings: dict[tuple[str, str], list[Checkpoint]] = {}
    for item in ledger.checkpoints:
        if is_saved(item):
            trainings.setdefault(item.training, []).append(item)
    reasons: dict[Key, str] = {}
    for items in trainings.values():
        reasons |= _of_training(items, keep, in_use)
    return tuple(
        Choice(item, bool(reason), reason or "old")
        for item in ledger.checkpoints
        for reason in [reasons.get(item.key, "not a checkpoint that a training saved")]
    )


def is_saved(item: Checkpoint) -> bool:
    """Whether a checkpoint is one that a training saved, by its place and its name."""
    place = item.of in (TRAIN, ADOPTED) and bool(_SAVED.fullmatch(item.name))
    return place and item.iteration is not None and bool(item.kind)


def _of_training(items: Sequence[Checkpoint], keep: Keep, in_use: InUse) -> dict[Key, str]:
    """Checkpoint -> why it stays, or nothing. Merged weights share their checkpoint's fate."""
    saves: dict[int, list[Checkpoint]] = {}
    for item in items:
        saves.setdefault(item.iteration or 0, []).append(item)
    complete = sorted(number for number, save in saves.items() if _is_complete(save))
    resumable = [item.iteration or 0 for item in items if item.resume.possible]
    _check_best(items, keep, complete)
    reasons: dict[Key, str] = {}
    for number, save in saves.items():
        rules = (
            _used(save, in_use),
            _unsettled(save),
            _newest(number, max(saves), complete, in_use),
            "the newest that can be resumed" if number == max(resumable, default=None) else "",
            _asked_for(number, save, complete, keep),
        )
        reason = next(filter(None, rules), "")
        reasons |= {item.key: reason for item in save}
    return reasons


def _is_complete(save: Sequence[Checkpoint]) -> bool:
    """Whether the checkpoint itself is whole; a merged model beside it cannot stand for it."""
    own = _own(save)
    return bool(own) and all(item.complete and not item.writing for item in own)


def _own(save: Iterable[Checkpoint]) -> list[Checkpoint]:
    return [item for item in save if not item.name.endswith("-merged")]


def _check_best(items: Sequence[Checkpoint], keep: Keep, complete: Sequence[int]) -> None:
    if keep.best and len(complete) > 1 and not any(item.best for item in items):
        raise BadInputError(
            Finding(
                "an evaluation that tells which checkpoint is the best",
                "none at an iteration that was saved",
                f"logging.jsonl and trainer_state.json of {items[0].training[1] or items[0].of}",
                "leave --keep-best out, or evaluate where you save",
            )
        )


def _used(save: Iterable[Checkpoint], in_use: InUse) -> str:
    for item in save:
        for holding in item.holdings:
            if holding.used_by:
                return f"in use on {holding.node}: {holding.used_by[0]}"
        if item.key in in_use.checkpoints:
            return f"in use: {in_use.checkpoints[item.key]}"
    return f"in use: {in_use.unnamed}" if in_use.unnamed else ""


def _unsettled(save: Sequence[Checkpoint]) -> str:
    if not _own(save):
        return "merged weights whose checkpoint is not there"
    for item in save:
        if item.writing:
            return "being written"
        if item.conflicts:
            return f"in conflict: {item.conflicts[0]}"
        if item.named_by:
            return f"{item.named_by[0]} names it"
    return ""


def _newest(number: int, highest: int, complete: Sequence[int], in_use: InUse) -> str:
    if in_use.training and number == highest:
        return f"the newest of a training that goes on ({in_use.training})"
    if not complete:
        return "no checkpoint of its training is complete"
    if number == complete[-1]:
        return "the newest complete one" if len(complete) > 1 else "the only complete one"
    return "newer than the newest complete one" if number > complete[-1] else ""


def _asked_for(number: int, save: Iterable[Checkpoint], complete: Sequence[int], keep: Keep) -> str:
    if number in complete[-keep.last :]:
        return f"one of the last {keep.last}"
    best = next((item.best for item in save if item.best), "")
    if keep.best and best:
        return best
    if keep.every is not None and number in complete and number % keep.every == 0:
        return f"every {keep.every}"
    return ""
