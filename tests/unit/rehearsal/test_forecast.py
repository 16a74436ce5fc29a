"""The forecast is arithmetic: what is full, when, and what two steps say of many."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pyswiftops import forecast
from pyswiftops.forecast import NodeRoom

GB = 10**9
FIRST = NodeRoom("node-1", "a:1", 100 * GB, base=10 * GB, roundtrip=5 * GB, checkpoint=6 * GB)
SECOND = NodeRoom("node-2", "b:1", 100 * GB, base=10 * GB, checkpoint=6 * GB)


def test_the_save_that_fills_a_disk_is_named() -> None:
    found = forecast.disks([FIRST, SECOND], 20, None)
    assert [(item.subject, item.ok) for item in found] == [
        ("disk of node-1", False),
        ("disk of node-2", False),
    ]
    # 15 GB of models and 14 saves of 6 GB are 99 GB; 10 GB and 15 saves are 100 GB.
    assert found[0].detail.startswith("full at save 15 of 20")
    assert found[1].detail.startswith("full at save 16 of 20")


def test_a_disk_that_only_gather_or_export_fills() -> None:
    count = 10
    first = replace(FIRST, export=10 * GB)
    assert forecast.disks([first, SECOND], count, None)[0].detail.startswith("full at gather")
    roomy = replace(first, free=138 * GB)
    assert forecast.disks([roomy, SECOND], count, None)[0].detail.startswith("full at export")
    enough = replace(first, free=145 * GB)  # 10 + 5 + 60 + 60 + 10
    outlook = forecast.disks([enough, SECOND], count, None)
    assert [item.ok for item in outlook] == [True, True]
    assert "145.0 GB needed in the end" in outlook[0].detail


def test_nodes_on_one_file_system_fill_it_together() -> None:
    shared = [FIRST, replace(SECOND, filesystem="a:1")]
    (found,) = forecast.disks(shared, 7, None)
    assert found.subject == "disk of node-1, node-2"
    assert found.detail.startswith("full at save 7 of 7")  # 25 GB and 12 GB a save
    assert forecast.disks(shared, 3, None)[0].ok


def test_old_checkpoints_go_only_after_the_new_one_is_there() -> None:
    second = replace(SECOND, free=10 * GB + 3 * 6 * GB)
    first = replace(FIRST, free=1000 * GB)
    assert forecast.disks([first, second], 100, 2)[1].ok
    full = forecast.disks([first, replace(second, free=second.free - 1)], 100, 2)[1]
    assert full.detail.startswith("full at save 3 of 100")


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(10, None, 1), (10, 10, 1), (10, 3, 4), (9, 3, 3)]
)
def test_how_many_checkpoints_a_run_saves(steps: int, every: int | None, expected: int) -> None:
    assert forecast.saves(steps, every) == expected


def test_epochs_become_steps() -> None:
    assert forecast.total_steps(None, 1.5, 101, 10) == 16
    assert forecast.total_steps(7, None, 101, 10) == 7
    assert forecast.total_steps(None, 3, 0, 10) is None


def test_the_time_of_a_step_leaves_start_up_out() -> None:
    # First pass: 10 s after one step, 12 s after two; the resumed pass: 9 s after its one step.
    found = forecast.step_seconds([(0, 1, 10.0), (0, 2, 6.0), (1, 1, 9.0)])
    assert found == pytest.approx(2.0)
    assert forecast.step_seconds([]) is None
    assert "1000 steps of 2.00 s are 0:33:20" in forecast.duration(1000, 2.0).detail
    assert forecast.duration(1000, None).ok is None


@pytest.mark.parametrize(
    ("before", "after", "ok"),
    [(1.5, 1.5, True), (1.5, 1.5001, True), (1.5, 1.6, False), (None, 1.5, None)],
)
def test_a_resumed_loss_that_differs_fails(
    before: float | None, after: float | None, ok: bool | None
) -> None:
    assert forecast.resumed(before, after, weights_only=False).ok is ok
    assert forecast.resumed(before, after, weights_only=True).ok is None


def test_a_loss_that_is_no_number_is_no_success() -> None:
    assert forecast.resumed(math.nan, math.nan, weights_only=False).ok is False


def test_peak_memory_by_node_and_gpu() -> None:
    gpu = {"index": 0, "memory_total_bytes": 80 * GB}
    samples: dict[str, list[dict[str, Any]]] = {
        "node-1": [
            {"memory_bytes": 3 * GB, "gpus": [{**gpu, "memory_used_bytes": 79 * GB}]},
            {"memory_bytes": 2 * GB, "gpus": [{**gpu, "memory_used_bytes": 10 * GB}]},
        ]
    }
    found = forecast.memory(samples, {"node-1": 10 * GB})
    assert [(item.subject, item.ok) for item in found] == [
        ("memory of node-1", True),
        ("memory of node-1 GPU 0", None),
    ]
    assert "peak 3.0 GB of 10.0 GB (30%)" in found[0].detail
    assert forecast.memory({}, {})[0].ok is None
