"""An export held to the checkpoint that it was made of: ``python -m pyswiftops.checkpoints.proof``.

Runs on the node of the export, with its torch and safetensors. What it compares with does not come
from mcore-bridge: shards are read by :mod:`~pyswiftops.checkpoints.shards`, names are matched by
:mod:`~pyswiftops.checkpoints.names`. Whole weights must be the same bits in the export's type. LoRA
is merged here in float32, ``W + scale B A``, and may differ by rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyswiftops.checkpoints.names import Heads, Part, part_of, rows_of
from pyswiftops.checkpoints.shards import Shards

if TYPE_CHECKING:
    from torch import Tensor

EXIT_FAILED = 1
SAMPLE = 24
SHOWN = 8
ROUNDINGS = 4
_ADAPTER = ("base_model.model.", ".lora_A.weight", ".lora_B.weight")


@dataclass
class Outcome:
    """What was compared.

    Attributes:
        equal: Names of tensors that are as they must be.
        wrong: Name -> how it differs.
        unknown: Names that no rule matches, or that the checkpoint does not have.
    """

    equal: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


class Weights:
    """Tensors of a folder of safetensors, read one by one."""

    def __init__(self, folder: Path, pattern: str = "*.safetensors") -> None:
        from safetensors import safe_open  # noqa: PLC0415 the node's

        self._files = ExitStack()
        self._home: dict[str, Any] = {}
        for path in sorted(folder.glob(pattern)):
            file = self._files.enter_context(safe_open(path, framework="pt"))
            self._home |= dict.fromkeys(file.keys(), file)

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return sorted(self._home)

    def read(self, name: str) -> Tensor:
        """A tensor."""
        found: Tensor = self._home[name].get_tensor(name)
        return found


class Reading:
    """What tensors of an export must be, by the checkpoint.

    Args:
        shards: Of the checkpoint.
        heads: Of the model.
        args: ``args.json`` of the checkpoint.
        base: The base model's weights; None where all weights were trained.
    """

    def __init__(
        self, shards: Shards, heads: Heads, args: dict[str, Any], base: Weights | None
    ) -> None:
        self._shards, self._heads, self._base = shards, heads, base
        rank = int(args.get("lora_rank") or 1)
        alpha = float(args.get("lora_alpha") or rank)
        self._scale = alpha / (math.sqrt(rank) if args.get("use_rslora") else rank)

    def weight(self, name: str, like: Tensor) -> Tensor | None:
        """What a tensor must be; None where nothing tells."""
        part = part_of(name)
        if part is None:
            return None
        if self._base is None:
            return self._cut(part, "", like.shape[0])
        if name not in self._base.names:
            return None
        value = self._base.read(name)
        pair = [self.adapter(name, which) for which in "AB"]
        if pair[0] is None or pair[1] is None:
            return value
        merged: Tensor = value.float() + self._scale * (pair[1].float() @ pair[0].float())
        return merged

    def adapter(self, name: str, which: str) -> Tensor | None:
        """LoRA's A or B of a weight; None where it has none."""
        part = part_of(name)
        if part is None:
            return None
        if which == "A":
            part = Part(part.names, part.layer, part.expert)
        return self._cut(part, f".lora_{which}.default", 0)

    def is_adapted(self, name: str) -> bool:
        """Whether LoRA changes a weight."""
        return self._base is not None and self.adapter(name, "A") is not None

    def _cut(self, part: Part, more: str, wanted: int) -> Tensor | None:
        for name in part.names:
            stem, _, ending = name.rpartition(".")
            found = self._read(f"{stem}{more}.{ending}", part)
            if found is not None:
                cut = "" if more and part.cut == "rows" else part.cut
                rows = rows_of(cut, found.shape[0], self._heads, wanted)
                return found if rows is None else found[rows]
        return None

    def _read(self, name: str, part: Part) -> Tensor | None:
        if part.layer is None:
            return self._shards.read(name) if self._shards.shape(name) else None
        own = f"decoder.layers.{part.layer}.{name}"
        at = () if part.expert is None else (part.expert,)
        if self._shards.shape(own):
            return self._shards.read(own, at)
        stacked = f"decoder.layers.{name}"
        if self._shards.shape(stacked):
            return self._shards.read(stacked, (part.layer, *at))
        return None


def chosen(names: list[str], *, everything: bool) -> list[str]:
    """All names, or a sample that is the same each time.

    In the sample are what stands outside of layers, the first and the last layer, some of the rest.
    """
    if everything:
        return names
    layers = sorted({part.layer for part in map(part_of, names) if part and part.layer is not None})
    ends = set(layers[:1] + layers[-1:])
    always = [
        name for name in names if (part := part_of(name)) is None or part.layer in {None, *ends}
    ]
    rest = [name for name in names if name not in set(always)]
    return always + random.Random(0).sample(rest, min(SAMPLE, len(rest)))  # noqa: S311 a sample


def compare(reading: Reading, export: Weights, *, everything: bool) -> Outcome:
    """Hold whole weights to the checkpoint."""
    outcome = Outcome()
    for name in chosen(export.names, everything=everything):
        value = export.read(name)
        wanted = reading.weight(name, value)
        if wanted is None:
            outcome.unknown.append(name)
            continue
        _judge(outcome, name, value, wanted, rounded=reading.is_adapted(name))
    return outcome


def compare_adapters(reading: Reading, export: Weights, *, everything: bool) -> Outcome:
    """Hold LoRA's own matrices to the checkpoint."""
    outcome = Outcome()
    before, ending_a, ending_b = _ADAPTER
    for name in export.names if everything else chosen(export.names, everything=False):
        ending = ending_a if name.endswith(ending_a) else ending_b
        weight = f"{name.removeprefix(before).removesuffix(ending)}.weight"
        wanted = reading.adapter(weight, ending[len(".lora_")])
        if wanted is None or not name.endswith((ending_a, ending_b)):
            outcome.unknown.append(name)
        else:
            _judge(outcome, name, export.read(name), wanted, rounded=False)
    return outcome


def _judge(outcome: Outcome, name: str, value: Tensor, wanted: Tensor, *, rounded: bool) -> None:
    import torch  # noqa: PLC0415

    if value.shape != wanted.shape:
        outcome.wrong[name] = f"{tuple(value.shape)}, expected {tuple(wanted.shape)}"
        return
    if not rounded and torch.equal(value, wanted.to(value.dtype)):
        outcome.equal.append(name)
        return
    apart = (value.float() - wanted.float()).abs().max().item()
    allowed = 0.0
    if rounded:
        eps = max(torch.finfo(value.dtype).eps, 2**-20)
        allowed = ROUNDINGS * eps * max(1e-3, wanted.float().abs().max().item())
    if rounded and apart <= allowed:
        outcome.equal.append(name)
    else:
        outcome.wrong[name] = f"differs by up to {apart:.3g}, {allowed:.3g} is rounding"


def report(outcome: Outcome, total: int) -> Iterator[str]:
    """Sentences on what was compared."""
    compared = len(outcome.equal) + len(outcome.wrong)
    yield f"compared {compared} of {total} tensors with the checkpoint"
    if not compared:
        yield "warning: nothing is proven of this export: the model's names are not known here"
    if outcome.unknown:
        some = ", ".join(outcome.unknown[:SHOWN])
        yield f"not compared, as no rule knows them: {len(outcome.unknown)}: {some}"
    for name, text in list(outcome.wrong.items())[:SHOWN]:
        yield f"error: {name} {text}"


def main(argv: list[str]) -> int:
    """Compare; 1 where a tensor is not what the checkpoint says, or cannot be read."""
    parser = argparse.ArgumentParser(prog="proof", allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="with LoRA")
    parser.add_argument("--config", type=Path, required=True, help="a folder with config.json")
    parser.add_argument("--adapters", action="store_true")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args(argv)
    try:
        config = json.loads((options.config / "config.json").read_text("utf-8"))
        args = json.loads((options.checkpoint / "args.json").read_text("utf-8"))
        (folder,) = options.checkpoint.glob("iter_*")
        base = Weights(options.base) if options.base else None
        reading = Reading(Shards(folder), Heads.of(config), args, base)
        export = Weights(options.export)
        how = compare_adapters if options.adapters else compare
        outcome = how(reading, export, everything=options.all)
    except (OSError, ValueError, KeyError) as problem:
        sys.stderr.write(f"error: the export cannot be compared: {problem!r}\n")
        return EXIT_FAILED
    for line in report(outcome, len(export.names)):
        sys.stdout.write(f"{line}\n")
    return EXIT_FAILED if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
