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
    *,
    model_type: str | None,
    template: str | None,
    system: str | None,
    seed: int | None,
    prompts: bool = False,
) -> list[int]:
    """Token length of every row that ms-swift's loader keeps; ``prompts``: rows hold no answers.

    A row that the loader cannot use ends it where rows cannot be counted beforehand: in
    samples and in folders.
    """
    from swift import get_processor, get_template, load_dataset  # noqa: PLC0415 takes 10 s

    processor = get_processor(model, model_type=model_type)
    encoder = get_template(processor, default_system=system, template_type=template)
    encoder.set_mode("transformers" if prompts else "train")
    strict = any(lines(dataset) is None for dataset in datasets)
    chosen: dict[str, Any] = {} if seed is None else {"seed": seed}
    rows, _ = load_dataset(list(datasets), load_from_cache_file=False, strict=strict, **chosen)
    return [len(encoder.encode(dict(row))["input_ids"]) for row in rows]


def lines(dataset: str) -> int | None:
    """Lines of a file that are not blank; None for a sample (``#N``) or a folder."""
    if not Path(dataset).is_file():
        return None
    with Path(dataset).open("rb") as file:
        return sum(1 for line in file if line.strip())


def count_rows(datasets: Sequence[str]) -> int | None:
    """Rows that the loader must keep; None where only the loader knows.

    A sample is so many rows; of a folder nobody but the loader knows the rows.
    """
    total = 0
    for dataset in datasets:
        count, sample = lines(dataset), dataset.rpartition("#")[2]
        if count is None and not sample.isdigit():
            return None
        total += int(sample) if count is None else count
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
    parser.add_argument("--seed", type=int)
    parser.add_argument("--prompts", action="store_true")
    given = parser.parse_args(arguments)
    lengths = measure(
        given.model,
        given.dataset,
        model_type=given.model_type,
        template=given.template,
        system=given.system,
        seed=given.seed,
        prompts=given.prompts,
    )
    rows = count_rows(given.dataset)
    try:
        result = summary(lengths, len(lengths) if rows is None else rows)
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
