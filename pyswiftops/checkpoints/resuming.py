"""Where a training that did not end goes on: pure, on what its nodes tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pyswiftops.checkpoints.ledger import TRAIN, Checkpoint, Ledger
from pyswiftops.checkpoints.merging import ARGS, INDEX, TRACKER
from pyswiftops.checkpoints.verdicts import LORA_FIXED, MEGATRON, first_few
from pyswiftops.errors import Finding
from pyswiftops.specs.run import Resume, RunSpec

ALIVE = frozenset({"starting", "running"})
SUCCEEDED, ABSENT = "succeeded", "absent"


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
        f"{item.name} cannot be gone on from: {first_few(item.lacking)}"
        for item in newest
        if item.lacking and (whole is None or item.iteration > whole.iteration)
    ]
    notes = "".join(f"; {note}" for note in dict.fromkeys(passed))
    if whole is None:
        return Decision(How.BEGIN, f"training begins again, as no checkpoint is whole{notes}")
    return Decision(How.CONTINUE, f"training goes on from {whole.name}{notes}", whole)


def candidates(ledger: Ledger) -> list[Candidate]:
    """The checkpoints that training of Megatron could go on from.

    Args:
        ledger: Of the folders that training wrote to, and of what it went on from before.
    """
    return [
        Candidate(item.iteration, *_holder(item))
        for item in ledger.checkpoints
        if item.kind in MEGATRON and not item.merged and item.iteration is not None
    ]


def _holder(checkpoint: Checkpoint) -> tuple[str, tuple[str, ...]]:
    """The node whose small files count, and why training cannot go on from the checkpoint."""
    verdict = checkpoint.resume
    for held in checkpoint.holdings:
        index = any(name.rpartition("/")[2] == INDEX for name in held.files)
        if index and {TRACKER, ARGS} <= set(held.files):
            return held.node, () if verdict.possible else verdict.reasons
    apart = () if not verdict.possible else (f"no node has {INDEX}, {TRACKER} and {ARGS} together",)
    return "", apart or verdict.reasons


def chosen(ledger: Ledger, resume: Resume) -> Checkpoint | None:
    """The checkpoint of a run that another one's file names, or its latest; None where none is."""
    saved = [item for item in ledger.checkpoints if item.of == TRAIN and item.kind in MEGATRON]
    if resume.checkpoint is not None:
        step = resume.checkpoint.rpartition("-")[2]
        return next((item for item in saved if str(item.iteration) == step), None)
    done = [item for item in saved if any(TRACKER in held.files for held in item.holdings)]
    return max(done, key=lambda item: item.iteration or 0, default=None)


def fits(checkpoint: Checkpoint, spec: RunSpec, *, any_size: bool) -> list[Finding]:
    """Why training of a run cannot go on from a checkpoint of another, each with its remedy.

    Args:
        checkpoint: What it names.
        spec: The run.
        any_size: Whether its optimizer is no distributed one, and loads at any parallel size.
    """
    where = f"{checkpoint.title} of resume.from"
    wanted = "mcore_lora" if spec.method.tuner == "lora" else "mcore"
    if checkpoint.kind != wanted:
        kinds = {"mcore": "whole weights", "mcore_lora": "adapters of LoRA"}
        expected = f"{kinds[wanted]}, as method.tuner is {spec.method.tuner}"
        return [Finding(expected, kinds[checkpoint.kind], where, "make both the same")]
    restart = spec.resume is not None and spec.resume.mode == "restart"
    if not checkpoint.complete:
        expected = "a checkpoint that the nodes hold whole together"
        found = "; ".join(checkpoint.resume.reasons)
        remedy = "bring its files back, or name another one (swiftops ckpt ls RUN)"
        return [Finding(expected, found, where, remedy)]
    if not restart and not checkpoint.has_optimizer:
        found = "; ".join(checkpoint.resume.reasons)
        return [Finding("an optimizer to go on with", found, where, "resume.mode: restart")]
    bound = LORA_FIXED if wanted == "mcore_lora" else ()
    sizes = {name: checkpoint.parallel[name] for name in bound if name in checkpoint.parallel}
    if not any_size and not restart:
        sizes = {**checkpoint.resume.sizes, **sizes}
    return [
        _bound(name, size, spec, where, weights=name in bound)
        for name, size in sizes.items()
        if getattr(spec.parallel, name, size) != size
    ]


def _bound(name: str, size: int, spec: RunSpec, where: str, *, weights: bool) -> Finding:
    """A parallel size that a checkpoint is bound to, and the run has another."""
    what = "LoRA's weights are" if weights else "its optimizer is"
    alone = "" if weights else ", or take the weights alone (resume.mode: restart)"
    return Finding(
        f"parallel.{name}: {size}, which {what} bound to",
        str(getattr(spec.parallel, name)),
        where,
        f"set parallel.{name} to {size}{alone}",
    )
