"""Which checkpoint training goes on from, by what nodes tell of theirs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pyswiftops.checkpoints.resuming import Candidate, How, candidates, decide

TRAIN, RESUME = "/n/{}/train", "/n/{}/resume"
TRACKER, ARGS = "latest_checkpointed_iteration.txt", "args.json"


def record(node: str, step: int, rank: int, *, index: bool = False, **more: Any) -> dict[str, Any]:
    """What ``checkpoint_ledger`` tells of a node's part: its rank's shard, and rank 0's files."""
    folder = f"iter_{step:07d}"
    files = {f"{folder}/__{rank}_0.distcp": 100}
    if index:
        names = (ARGS, TRACKER, f"{folder}/.metadata", f"{folder}/metadata.json")
        files |= dict.fromkeys(names, 10)
    root = TRAIN.format(node)
    return {
        "root": root,
        "name": f"checkpoint-{step}",
        "iter_dir": f"{root}/checkpoint-{step}/{folder}",
        "iteration": step,
        "merged": False,
        "files": {name: {"size": size} for name, size in files.items()},
        "half": [],
        "damaged": [],
        "needed": {f"{folder}/__{number}_0.distcp": 90 for number in (0, 1)} if index else {},
        "index_digest": "d" if index else None,
        "has_optimizer": True if index else None,
        **more,
    }


def found(*records: dict[str, Any]) -> list[Candidate]:
    nodes = ("node-1", "node-2")
    told: dict[str, Any] = {node: {"checkpoints": []} for node in nodes}
    for item in records:
        told[item["root"].split("/")[2]]["checkpoints"].append(item)
    return candidates(told, {node: (TRAIN.format(node), RESUME.format(node)) for node in nodes})


def whole(step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return record("node-1", step, 0, index=True), record("node-2", step, 1)


def test_parts_on_two_nodes_are_one_whole_checkpoint() -> None:
    (one,) = found(*whole(2))
    assert (one.name, one.holder, one.lacking) == ("checkpoint-2", "node-1", ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _one, two: two["files"].clear(), "__1_0.distcp on no node"),
        (
            lambda _one, two: two["files"]["iter_0000002/__1_0.distcp"].update(size=89),
            "__1_0.distcp short",
        ),
        (lambda _one, two: two["half"].append("iter_0000002/__1_0.distcp"), "on no node"),
        (lambda one, _two: one["files"].pop(TRACKER), f"no {TRACKER} on node-1"),
        (lambda one, _two: one["files"].pop(ARGS), f"no {ARGS} on node-1"),
        (lambda one, _two: one.update(needed={}), "none that training wrote"),
        (lambda one, _two: one.update(index_digest=None), ".metadata on no node"),
        (lambda _one, two: two.update(index_digest="other"), "different .metadata"),
        (lambda one, _two: one.update(has_optimizer=False), "without an optimizer"),
    ],
)
def test_what_is_not_whole_says_what_is_lacking(change: Any, said: str) -> None:
    parts = whole(2)
    change(*parts)
    (one,) = found(*parts)
    assert any(said in reason for reason in one.lacking), one.lacking


def test_merged_weights_and_folders_without_shards_are_no_checkpoints() -> None:
    assert not found(record("node-1", 2, 0, index=True, merged=True))
    assert not found(record("node-1", 2, 0, index=True, iter_dir=None))


def test_what_it_went_on_from_before_counts_apart_from_what_it_saved() -> None:
    """Half of a checkpoint in one folder and half of it in the other make no whole one."""
    one, two = whole(2)
    two |= {"root": RESUME.format("node-2")}
    assert all(item.lacking for item in found(one, two))


def test_a_later_checkpoint_that_is_not_whole_is_passed_over_and_told() -> None:
    later = record("node-1", 4, 0, index=True)
    decision = decide({"node-1": "failed", "node-2": "failed"}, found(*whole(2), later), 2)
    assert decision.how is How.CONTINUE
    assert decision.checkpoint is not None
    assert decision.checkpoint.iteration == 2
    assert "goes on from checkpoint-2; checkpoint-4 is not whole: iter_0000004/__1_0" in (
        decision.detail
    )


@pytest.mark.parametrize(
    ("jobs", "how"),
    [
        ({"node-1": "running", "node-2": "running"}, How.JOIN),
        ({"node-1": "succeeded", "node-2": "running"}, How.JOIN),
        ({"node-1": "running", "node-2": "failed"}, How.CONTINUE),
        ({"node-1": "running", "node-2": "absent"}, How.CONTINUE),
        ({"node-1": "running"}, How.CONTINUE),  # the other does not answer
        ({"node-1": "lost", "node-2": "stopped"}, How.CONTINUE),
    ],
)
def test_only_a_training_that_is_whole_itself_is_joined(jobs: dict[str, str], how: How) -> None:
    assert decide(jobs, found(*whole(2)), 2).how is how


def test_without_a_whole_checkpoint_it_begins_again_and_says_why() -> None:
    parts = whole(2)
    parts[1]["files"].clear()
    decision = decide({"node-1": "failed", "node-2": "failed"}, found(*parts), 2)
    assert decision.how is How.BEGIN
    assert "begins again; checkpoint-2 is not whole" in decision.detail
    assert decide({"node-1": "absent", "node-2": "absent"}, [], 2).detail == (
        "training had not begun"
    )


CANDIDATES = some.lists(
    some.builds(
        Candidate,
        some.integers(1, 50),
        some.just("n"),
        some.sampled_from([(), ("a shard on no node",)]),
    )
)
STATES = some.sampled_from(
    ["absent", "starting", "running", "succeeded", "failed", "stopped", "lost"]
)


@settings(derandomize=True)
@given(some.dictionaries(some.sampled_from("abc"), STATES, min_size=1), CANDIDATES)
def test_it_never_goes_on_from_less_than_the_latest_whole_one(
    jobs: dict[str, str], items: list[Candidate]
) -> None:
    decision = decide(jobs, items, 3)
    usable = [item.iteration for item in items if not item.lacking]
    if decision.how is How.CONTINUE:
        assert decision.checkpoint is not None
        assert not decision.checkpoint.lacking
        assert decision.checkpoint.iteration == max(usable)
    elif decision.how is How.BEGIN:
        assert not usable
    else:
        assert len(jobs) == 3
