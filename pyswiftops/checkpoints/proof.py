"""Prove an export: its tensors against an own reading of the Megatron checkpoint.

Runs on the node as ``python -m pyswiftops.checkpoints.proof``, in the Python that ms-swift is
installed in. Files that upstream lost beside the weights are copied from the base model.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pyswiftops.checkpoints import comparing
from pyswiftops.checkpoints.companions import Companions, repair, vocabulary
from pyswiftops.checkpoints.mapping import Sizes
from pyswiftops.checkpoints.weights import Adapters, Mapped, Safetensors, Weights


def prove(
    checkpoint: Path, exported: Path, base: Path, *, form: str, lora: bool, every: bool, seed: int
) -> comparing.Report:
    """Compare an export with the checkpoint it was made of.

    Args:
        checkpoint: The trained torch_dist checkpoint; of LoRA, the adapters.
        exported: What the export wrote.
        base: The base model as HF.
        form: ``hf``, ``mcore`` or ``adapters``, as ``export.form``.
        lora: Whether adapters were trained.
        every: Compare every tensor, not a sample.
        seed: Of the sample.

    Raises:
        ValueError, OSError: a file cannot be read.
    """
    sizes = Sizes.of(json.loads((base / "config.json").read_text("utf-8")))
    origin = Safetensors(base)
    how: dict[str, Any] = {"every": every, "seed": seed}
    if form == "adapters":
        trained = Adapters(checkpoint, origin.names, sizes)
        return comparing.apart(trained, Safetensors(exported, adapters=True), **how)
    made: Weights
    made = Safetensors(exported) if form == "hf" else Mapped(exported, origin.names, sizes)
    if lora:
        return comparing.merged(Adapters(checkpoint, origin.names, sizes), origin, made, **how)
    known = made.names if form == "hf" else origin.names
    return comparing.whole(Mapped(checkpoint, known, sizes), made, **how)


def beside(exported: Path, base: Path, report: comparing.Report) -> Companions:
    """Repair what lies beside the weights of an HF model, and hold its vocabulary to them."""
    found, weights = repair(exported, base), Safetensors(exported)
    size = vocabulary(exported)
    name = next((name for name in weights.names if name.endswith("embed_tokens.weight")), None)
    rows = weights.read(name).shape[0] if name else size
    if size is not None and rows != size:
        report.differ[f"{name}"] = f"expected {size} rows, vocab_size of config.json, found {rows}"
    return found


def main(argv: list[str] | None = None) -> int | str | None:
    """Run the program; returns what ends it: a sentence where a tensor differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("checkpoint", "exported", "base", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--form", choices=("hf", "mcore", "adapters"), required=True)
    parser.add_argument("--tuner", required=True)
    parser.add_argument("--proof", choices=("sampled", "full"), default="sampled")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    try:
        report = prove(
            args.checkpoint,
            args.exported,
            args.base,
            form=args.form,
            lora=args.tuner == "lora",
            every=args.proof == "full",
            seed=args.seed,
        )
        files = beside(args.exported, args.base, report) if args.form == "hf" else Companions()
    except (OSError, ValueError, KeyError) as problem:
        return f"error: the export cannot be held to its checkpoint: {problem!r}"
    document = {**report.__dict__, **files.__dict__, "proved": report.proved}
    args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    notes = [f"copied from the base: {name}" for name in files.repaired]
    notes += [f"note: {text}" for text in files.differs]
    sys.stdout.write("\n".join([*notes, report.text()]) + "\n")
    if report.differ:
        return (
            f"expected: the export's tensors as in {args.checkpoint}; found: tensors that differ, "
            f"see above; where: {args.exported}; remedy: gather the checkpoint and export it again"
        )
    if not report.proved:
        sys.stdout.write("warning: nothing is proven of this export: no rule knows its names\n")
    return None


if __name__ == "__main__":
    sys.exit(main())
