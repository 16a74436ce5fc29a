"""The rank that holds the others up is named, out of what the nodes saw."""

from __future__ import annotations

from typing import Any

import pytest

from pyswiftops.planner.commands import first_failure
from pyswiftops.planner.hang import suspect, text

REDUCE = ["all_reduce (torch/distributed/distributed_c10d.py)", "train_step (training.py)"]
# py-spy's words of 2 x H200, where node-1's rank was stopped (tests/gpu/faults.py)
PIPELINE = [
    "_communicate_shapes (megatron/core/pipeline_parallel/p2p_communication.py)",
    "forward_backward_pipelining_without_interleaving (schedules.py)",
]
LOADING = ["__next__ (torch/utils/data/dataloader.py)", "train_step (training.py)"]


def rank(number: int, frames: list[str], state: str = "S") -> dict[str, Any]:
    return {"rank": number, "pid": 100 + number, "state": state, "used_cpu": 0, "frames": frames}


def report(*ranks: dict[str, Any], world: int = 4) -> dict[str, Any]:
    return {"world_size": world, "ranks": list(ranks), "lines": ["NCCL INFO x"]}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            report(rank(0, REDUCE), rank(1, REDUCE)),
            report(rank(2, LOADING), rank(3, REDUCE)),
            "rank 2 on node-2 never entered all_reduce",
        ),
        (
            report(rank(0, REDUCE), rank(1, LOADING, state="T")),
            report(rank(2, LOADING), rank(3, REDUCE)),
            "rank 1 on node-1 is stopped (state T",
        ),
        (
            report(rank(0, REDUCE), rank(1, REDUCE)),
            report(rank(2, REDUCE), rank(3, REDUCE, state="D")),
            "rank 3 on node-2 sleeps in the kernel",
        ),
        (
            report(rank(0, REDUCE), rank(1, REDUCE)),
            report(rank(2, REDUCE)),
            "rank 3 has no process",
        ),
        (
            report(rank(0, PIPELINE), rank(1, REDUCE)),
            report(rank(2, REDUCE), rank(3, REDUCE)),
            "rank 0 on node-1 waits in _communicate_shapes",
        ),
        (report(rank(0, PIPELINE), rank(1, REDUCE), world=2), report(world=2), None),
        (report(rank(0, REDUCE), rank(1, REDUCE), world=2), report(world=2), None),
        (report(rank(0, []), rank(1, REDUCE), world=2), report(world=2), None),
        (report(world=0), report(world=0), None),
    ],
)
def test_the_rank_that_stands_out_is_named(
    first: dict[str, Any], second: dict[str, Any], said: str | None
) -> None:
    found = suspect({"node-1": first, "node-2": second})
    assert (found is None) if said is None else (said in str(found))


def test_the_page_has_all_ranks_and_the_last_lines() -> None:
    page = text("train", {"node-1": report(rank(0, REDUCE)), "node-2": report(rank(1, LOADING))})
    for part in ("rank 0 on node-1: process 100", "__next__", "NCCL INFO x", "held up by: rank 2"):
        assert part in page


def test_the_failure_names_it_too() -> None:
    hung = {"kind": "hung", "detail": "hung: no training step"}
    peer = {"kind": "peer_failed", "detail": "node-1 hung"}
    results = {
        "node-1": {"state": "failed", "reason": hung, "hang": report(rank(0, REDUCE), world=2)},
        "node-2": {"state": "failed", "reason": peer, "hang": report(rank(1, LOADING), world=2)},
    }
    told = first_failure(results)
    assert told["node"] == "node-1"
    assert "held up by rank 1 on node-2 never entered all_reduce" in told["detail"]
