"""Measure token lengths of training rows with ms-swift's own loader and template.

Runs on a node as ``python -m pyswiftops.data.lengths``, in the Python that ms-swift is installed
in. Rows longer than training's ``max_length`` are dropped by upstream without a word, and so are
rows that its loader cannot use: both are counted here, before training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PERCENTILES = (50, 90, 99, 100)
MULTIPLE = 8  # max_length is rounded up to this many tokens: kernels like multiples of 8


def summary(lengths: Sequence[int], rows: int) -> dict[str, Any]:
    """What the run needs to know of the lengths.

    Args:
        lengths: Tokens of every row that the loader kept.
        rows: Rows in the files.

    Returns:
        ``rows``, ``kept``, ``longest`` and ``tokens`` (tokens), ``max_length`` (the longest row,
        rounded up), ``percentiles`` (percent -> tokens).

    Raises:
        ValueError: no row is left, or the loader dropped some.
    """
    if len(lengths) != rows or not rows:
        raise ValueError(
            f"expected all {rows} rows to be usable, found {len(lengths)}: ms-swift's loader "
            "drops rows that it cannot read without a word; see its messages above, or run "
            "`swiftops plan` for the file and line"
        )
    ordered = sorted(lengths)
    longest = ordered[-1]
    return {
        "rows": rows,
        "kept": len(ordered),
        "tokens": sum(ordered),
        "longest": longest,
        "max_length": -(-longest // MULTIPLE) * MULTIPLE,
        "percentiles": {
            str(percent): ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
            for percent in PERCENTILES
        },
    }


def measure(
    model: str,
    datasets: Sequence[str],
    model_type: str | None,
    template: str | None,
    system: str | None,
) -> list[int]:
    """Token length of every row that ms-swift's loader keeps."""
    from swift import get_processor, get_template, load_dataset  # noqa: PLC0415 takes 10 s

    processor = get_processor(model, model_type=model_type)
    encoder = get_template(processor, default_system=system, template_type=template)
    encoder.set_mode("train")
    rows, _ = load_dataset(list(datasets), load_from_cache_file=False)
    return [len(encoder.encode(dict(row))["input_ids"]) for row in rows]


def count_rows(datasets: Sequence[str]) -> int:
    """Lines that are not blank, over all files."""
    total = 0
    for path in datasets:
        with Path(path).open("rb") as file:
            total += sum(1 for line in file if line.strip())
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the summary as JSON to ``--output``."""
    parser = argparse.ArgumentParser(prog="python -m pyswiftops.data.lengths", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True, nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument("--model_type")
    parser.add_argument("--template")
    parser.add_argument("--system")
    given = parser.parse_args(arguments)
    lengths = measure(given.model, given.dataset, given.model_type, given.template, given.system)
    try:
        result = summary(lengths, count_rows(given.dataset))
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    output = Path(given.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.part")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(output)
    sys.stdout.write(f"{json.dumps(result)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
