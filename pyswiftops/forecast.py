"""What a whole run will need, out of what two steps of it needed. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TIGHT = 0.92  # of a memory: longer rows than those of two steps will come
LOSS_TOLERANCE = 0.01  # of the loss; kernels on GPUs need not give the same bits twice


@dataclass(frozen=True)
class NodeRoom:
    """A node's room, and what each thing of the run takes of it.

    Attributes:
        node: The node's name.
        filesystem: Which file system its root lies on; nodes may share one.
        free: Bytes that were free before anything was written.
        base: Bytes of the base model in Megatron's format.
        roundtrip: Bytes of the base model converted back.
        checkpoint: Bytes that one save writes on this node.
        export: Bytes of the exported model.
    """

    node: str
    filesystem: str
    free: int
    base: int = 0
    roundtrip: int = 0
    checkpoint: int = 0
    export: int = 0


@dataclass(frozen=True)
class Outlook:
    """One sentence on how the whole run will fare.

    Attributes:
        subject: What it is about.
        ok: Whether it will go well; None where it was not measured, or is close.
        detail: The sentence.
    """

    subject: str
    ok: bool | None
    detail: str


def total_steps(iterations: int | None, epochs: float | None, rows: int, batch: int) -> int | None:
    """Optimizer steps of the run, with packing at most; None where rows were not counted."""
    if iterations is not None:
        return iterations
    return math.ceil((epochs or 0) * rows / batch) or None


def saves(steps: int, every: int | None) -> int:
    """Checkpoints of the run: one every so many steps, and one at the end."""
    return 1 if every is None else math.ceil(steps / every)


def disks(rooms: Sequence[NodeRoom], count: int, keep: int | None) -> list[Outlook]:
    """Whether convert, every save, gather and export find room on every file system.

    Args:
        rooms: The nodes in rank order; the first gathers and exports.
        count: How many checkpoints are saved.
        keep: How many of them are kept; None keeps all. An old one goes after the new one is there.
    """
    first = rooms[0]
    kept = count if keep is None else min(count, keep)
    gathered = kept * sum(room.checkpoint for room in rooms[1:])
    found = []
    for name in dict.fromkeys(room.filesystem for room in rooms):
        here = [room for room in rooms if room.filesystem == name]
        disk = _Disk(
            free=min(room.free for room in here),
            models=sum(room.base + room.roundtrip for room in here),
            save=sum(room.checkpoint for room in here),
            at_once=count if keep is None else min(count, keep + 1),
            kept=kept,
            gathered=gathered if first in here else 0,
            export=first.export if first in here else 0,
        )
        full = disk.full_at(count)
        numbers = f"{size(disk.in_the_end)} needed in the end, {size(disk.free)} free ({name})"
        where = f"disk of {', '.join(room.node for room in here)}"
        text = f"full at {full}: {numbers}" if full else numbers
        found.append(Outlook(where, ok=not full, detail=text))
    return found


@dataclass(frozen=True)
class _Disk:
    """A file system, and in bytes what the run puts on it."""

    free: int
    models: int
    save: int
    at_once: int
    kept: int
    gathered: int
    export: int

    @property
    def in_the_end(self) -> int:
        return self.models + self.kept * self.save + self.gathered + self.export

    def full_at(self, count: int) -> str:
        """The first thing that does not find room, or ""."""
        left = self.free - self.models
        if left < 0:
            return "convert"
        if self.at_once * self.save > left:
            return f"save {left // self.save + 1} of {count}"
        left -= self.kept * self.save + self.gathered
        if left < 0:
            return "gather"
        return "export" if self.export > left else ""


def duration(steps: int, step_seconds: float | None) -> Outlook:
    """How long training will take, saves and start apart."""
    if step_seconds is None:
        return Outlook("training time", ok=None, detail="no step was logged")
    text = f"{steps} steps of {step_seconds:.2f} s are {clock(steps * step_seconds)}, without saves"
    return Outlook("training time", ok=True, detail=text)


def step_seconds(logged: Iterable[tuple[int, int, float]]) -> float | None:
    """Seconds of a step, out of averages that start-up weighs on: the least that was seen.

    Args:
        logged: Training pass, steps of it so far, seconds a step on average so far.
    """
    passes: dict[int, dict[int, float]] = {}
    for number, steps, average in logged:
        passes.setdefault(number, {})[steps] = steps * average
    each = []
    for elapsed in passes.values():
        before = (0, 0.0)
        for steps, seconds in sorted(elapsed.items()):
            if steps > before[0]:
                each.append((seconds - before[1]) / (steps - before[0]))
                before = (steps, seconds)
    return min((seconds for seconds in each if seconds > 0), default=None)


def resumed(before: float | None, after: float | None, *, weights_only: bool) -> Outlook:
    """Whether the step after a checkpoint came out as it did without a break."""
    subject = "resume"
    if weights_only:
        text = "weights only: save_optimizer is false, so that a broken run starts its steps anew"
        return Outlook(subject, ok=None, detail=text)
    if before is None or after is None:
        return Outlook(subject, ok=None, detail="no loss was logged to compare")
    text = f"loss {after:.8g} after resuming, {before:.8g} without a break"
    near = abs(after - before) <= LOSS_TOLERANCE * max(abs(before), abs(after))
    return Outlook(subject, ok=near, detail=text)


def memory(
    usage: Mapping[str, Sequence[Mapping[str, Any]]], totals: Mapping[str, int]
) -> list[Outlook]:
    """Peak memory of each node's jobs against what there is.

    Args:
        usage: node -> samples as the module ``job`` tells them.
        totals: node -> bytes of main memory.
    """
    found = []
    for node, samples in usage.items():
        peak = max((int(sample.get("memory_bytes") or 0) for sample in samples), default=0)
        total = totals.get(node, 0)
        if peak and total:
            found.append(_memory_outlook(f"memory of {node}", peak, total))
        gpus: dict[int, tuple[int, int]] = {}
        for sample in samples:
            for gpu in sample.get("gpus") or ():
                used, there = int(gpu["memory_used_bytes"]), int(gpu["memory_total_bytes"])
                index = int(gpu["index"])
                gpus[index] = max(gpus.get(index, (0, there)), (used, there))
        found += [
            _memory_outlook(f"memory of {node} GPU {index}", used, there)
            for index, (used, there) in sorted(gpus.items())
        ]
    return found or [Outlook("memory", ok=None, detail="no sample was taken")]


def _memory_outlook(subject: str, peak: int, total: int) -> Outlook:
    text = f"peak {size(peak)} of {size(total)} ({peak / total:.0%})"
    if peak > TIGHT * total:
        return Outlook(subject, ok=None, detail=f"{text}: close; longer rows may not fit")
    return Outlook(subject, ok=True, detail=text)


_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def recast(stored: int, kept: str, dtype: str) -> int:
    """Bytes of weights in another dtype; one that is not known counts as two bytes."""
    return stored * _DTYPE_BYTES.get(dtype, 2) // _DTYPE_BYTES.get(kept, 2)


def export_memory(weights: int, total: int, *, every_gpu: bool, test_precision: bool) -> Outlook:
    """Whether an export finds room in a node's main memory.

    One process holds the model, and once more what it writes; the precision test holds the other
    model beside them. A process on each GPU holds its part, and writes part by part. Inferred of
    how upstream works (and of reports that a 480B model exhausts a host); not measured.

    Args:
        weights: Bytes of the model's weights in the dtype of the export.
        total: Bytes of the node's main memory; 0 where it cannot be told.
        every_gpu: Whether each GPU has a process.
        test_precision: Whether upstream compares both models' outputs.
    """
    subject = "memory for the export"
    if not weights or not total:
        return Outlook(subject, ok=None, detail="not known: no weights or no memory could be read")
    need = weights * ((1 if every_gpu else 2) + test_precision)
    text = f"about {size(need)} for {size(weights)} of weights, {size(total)} there"
    if need <= total:
        near = need > TIGHT * total
        return Outlook(subject, ok=None if near else True, detail=text + ": close" * near)
    remedies = [
        *(() if every_gpu else ("export.gpus: all",)),
        *(("export.test_precision: false",) if test_precision else ()),
    ]
    remedy = " or ".join(remedies) or "a first node with more memory"
    return Outlook(subject, ok=False, detail=f"expected room; found {text}; remedy: {remedy}")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:  # noqa: PLR2004 SI units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
