"""Parallel sizes that do not fit are refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.planner.parallel import check_parallel
from pyswiftops.specs.run import RunSpec

SMOLLM2 = {"num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30}


def findings(ranks: int, batch: tuple[int, int] = (1, 8), **parallel: Any) -> list[str]:
    document = {
        "name": "x",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {
            "iterations": 1,
            "micro_batch_size": batch[0],
            "global_batch_size": batch[1],
        },
        "parallel": parallel,
    }
    spec = RunSpec.from_document({"run": document}, Path("/x/run.yml"))
    return [str(finding) for finding in check_parallel(spec, ranks, SMOLLM2)]


@pytest.mark.parametrize(
    ("ranks", "parallel"),
    [(2, {"pipeline": 2}), (1, {}), (8, {}), (3, {"tensor": 3}), (6, {"tensor": 3, "pipeline": 2})],
)
def test_sizes_that_fit_have_no_findings(ranks: int, parallel: dict[str, int]) -> None:
    batch = (1, 24)
    assert findings(ranks, batch, **parallel) == []


@pytest.mark.parametrize(
    ("ranks", "parallel", "said"),
    [
        (2, {"pipeline": 3}, "1 x 3 x 1 = 3 on 2 ranks"),
        (4, {"pipeline": 4}, "divides the model's 30 layers"),
        (2, {"tensor": 2}, "divides the model's 9 attention heads"),
        (9, {"tensor": 9}, ""),
        (2, {"tensor": 2}, "3 key-value heads"),
    ],
)
def test_sizes_that_do_not_divide_are_named(
    ranks: int, parallel: dict[str, int], said: str
) -> None:
    assert said in "\n".join(findings(ranks, (1, 36), **parallel))


def test_the_remedy_lists_the_sizes_that_fit() -> None:
    (finding, *_) = findings(2, tensor=2)
    assert "use one of 1, 3, 9" in finding


def test_a_batch_that_data_parallel_does_not_divide_is_refused() -> None:
    (finding,) = findings(3, (2, 8))
    assert "use a multiple of 6" in finding
