"""Compare exported tensors with the checkpoint's, one by one."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyswiftops.checkpoints.mapping import MappingError, Piece
from pyswiftops.checkpoints.weights import Adapters, Mapped, Weights, layer_ends

SAMPLE = 32  # tensors beside those that are always compared
_PEFT = "base_model.model."
_LOW = 2  # bytes of bfloat16 and float16
NAMED = 10  # tensors that a report names


@dataclass
class Report:
    """What a comparison found.

    Attributes:
        equal: How many tensors are as the checkpoint has them.
        differ: Name -> what is wrong with it.
        not_compared: Names without a rule.
        skipped: How many the sample left out.
    """

    equal: int = 0
    differ: dict[str, str] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)
    skipped: int = 0

    def add(self, name: str, problem: str | None) -> None:
        """Enter one tensor; None is no problem."""
        if problem is None:
            self.equal += 1
        else:
            self.differ[name] = problem

    @property
    def proved(self) -> bool:
        """Whether something was compared, and all of it is right."""
        return bool(self.equal) and not self.differ

    def text(self) -> str:
        """Sentences for people."""
        counts = (
            f"{self.equal} tensors as the checkpoint has them, {len(self.differ)} differ, "
            f"{len(self.not_compared)} not compared, {self.skipped} left out by the sample"
        )
        lines = [counts]
        lines += [f"differs: {name}: {what}" for name, what in list(self.differ.items())[:NAMED]]
        lines += [f"not compared: {name}" for name in self.not_compared[:NAMED]]
        return "\n".join(lines)


def chosen(found: Mapping[str, Piece], *, every: bool, seed: int) -> list[str]:
    """Names to compare: all, or those outside layers, the first and last layer, and a sample."""
    if every:
        return sorted(found)
    ends = layer_ends(found)
    always = {name for name, piece in found.items() if piece.layer is None or piece.layer in ends}
    rest = sorted(set(found) - always)
    drawn = random.Random(seed).sample(rest, min(SAMPLE, len(rest)))  # noqa: S311 no secret
    return sorted({*always, *drawn})


def whole(trained: Mapped, exported: Weights, *, every: bool, seed: int) -> Report:
    """Full weights: bit-identical, in the dtype of the export."""
    names = chosen(trained.pieces, every=every, seed=seed)
    report = Report(not_compared=list(trained.left), skipped=len(trained.pieces) - len(names))
    for name in names:
        with _guarded(report, name):
            report.add(name, identical(trained.read(name), exported, name))
    report.not_compared += sorted(set(exported.names) - set(trained.pieces))
    return report


def merged(
    trained: Adapters, base: Weights, exported: Weights, *, every: bool, seed: int
) -> Report:
    """LoRA merged: base + scale x B @ A in float32; where there is no adapter, the base's bits."""
    tuned = chosen(trained.pieces, every=every, seed=seed)
    others = _untuned(base.names, trained.pieces, every=every, seed=seed)
    everything = len(set(base.names) | set(trained.pieces))
    report = Report(not_compared=list(trained.left), skipped=everything - len(tuned) - len(others))
    for name in tuned:
        with _guarded(report, name):
            report.add(name, _merge_problem(trained, base, exported, name))
    for name in others:
        problem = identical(base.read(name), exported, name)
        if problem and trained.left:  # an adapter that no rule maps may have changed it
            report.not_compared.append(name)
        else:
            report.add(name, problem)
    report.not_compared += sorted(set(exported.names) - set(base.names))
    return report


def apart(trained: Adapters, exported: Weights, *, every: bool, seed: int) -> Report:
    """Adapters alone: A, and the rows of B, bit-identical in the dtype of the export."""
    tuned = chosen(trained.pieces, every=every, seed=seed)
    report = Report(not_compared=list(trained.left), skipped=2 * (len(trained.pieces) - len(tuned)))
    for name in tuned:
        with _guarded(report, name):
            for letter, matrix in zip("AB", trained.read(name), strict=True):
                stem = name.removesuffix(".weight")
                there = f"{_PEFT}{stem}.lora_{letter}.weight"
                report.add(there, identical(matrix, exported, there))
    stems = {name.removesuffix(".weight") for name in trained.pieces}
    report.not_compared += sorted(
        name for name in exported.names if name.removeprefix(_PEFT).split(".lora_")[0] not in stems
    )
    return report


class _guarded:  # noqa: N801 a context manager, used as a statement
    """A tensor that has not the shape its rule is for was not compared."""

    def __init__(self, report: Report, name: str) -> None:
        self._report, self._name = report, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, MappingError):
            return False
        self._report.not_compared.append(f"{self._name} ({error})")
        return True


def _untuned(names: Iterable[str], tuned: Collection[str], *, every: bool, seed: int) -> list[str]:
    rest = sorted(set(names) - set(tuned))
    if every:
        return rest
    always = [name for name in rest if ".layers." not in name]
    inside = [name for name in rest if ".layers." in name]
    return always + random.Random(seed).sample(inside, min(SAMPLE, len(inside)))  # noqa: S311 no secret


def _shaped(expected: Any, exported: Weights, name: str) -> tuple[Any, Any, str | None]:
    """Both tensors with the same rows, or what is wrong with the shape."""
    if name not in exported.names:
        return expected, None, "missing in the export"
    found = exported.read(name)
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        expected = expected[: found.shape[0]]  # Megatron pads the vocabulary
    if expected.shape != found.shape:
        wrong = f"expected shape {tuple(expected.shape)}, found {tuple(found.shape)}"
        return expected, found, wrong
    return expected, found, None


def identical(expected: Any, exported: Weights, name: str) -> str | None:
    """What differs, None where every bit is the same once the dtype is that of the export."""
    import torch  # noqa: PLC0415 only nodes have it

    expected, found, problem = _shaped(expected, exported, name)
    if problem:
        return problem
    same = expected.to(found.dtype).contiguous()
    if torch.equal(same.view(torch.uint8), found.contiguous().view(torch.uint8)):
        return None
    apart_by = (same.double() - found.double()).abs()
    return f"max abs difference {apart_by.max().item():.3g}, {int((apart_by > 0).sum())} numbers"


def _merge_problem(trained: Adapters, base: Weights, exported: Weights, name: str) -> str | None:
    """Beyond what rounding of factors, product and sum to the export's dtype explains.

    Each rounding is at most eps relative to its number; a product's sum over the rank is bounded
    by ``|B| @ |A|``.
    """
    import torch  # noqa: PLC0415 only nodes have it

    first, second = trained.read(name)
    rank = first.shape[0]
    scale, first, second = trained.scale(rank), first.float(), second.float()
    before = base.read(name)
    expected, found, problem = _shaped(before.float() + scale * (second @ first), exported, name)
    if problem:
        return problem
    eps = torch.finfo(found.dtype).eps
    rounds = 3 if found.element_size() <= _LOW else rank + 3
    magnitude = scale * (second.abs() @ first.abs())
    allowed = eps * (before.float().abs() + expected.abs() + rounds * magnitude)
    off = (expected - found.float()).abs()
    if not bool((off <= allowed).all()):
        return f"max abs difference {off.max().item():.3g}, {int((off > allowed).sum())} numbers"
    unmerged = before.to(found.dtype)
    if torch.equal(unmerged, found) and not torch.equal(expected.to(found.dtype), unmerged):
        return "is the base's tensor: the adapter was not merged"
    return None
