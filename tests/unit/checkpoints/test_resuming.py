"""Which checkpoint training goes on from, by what nodes tell of theirs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import layout
from hypothesis import given, settings
from hypothesis import strategies as some

from pyswiftops.checkpoints.ledger import Ledger
from pyswiftops.checkpoints.merging import make_ledger
from pyswiftops.checkpoints.resuming import Candidate, How, candidates, chosen, decide, fits
from pyswiftops.specs.run import RunSpec

from . import trees

NODES = ("node-1", "node-2")
LATER = 10**12
WHOLE = (Candidate(2, "node-1"),)


class Disks:
    """Two nodes, each with the shards of its own rank, as a training leaves them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.save(10)

    def at(self, number: int, step: int, folder: str = "train") -> Path:
        """A checkpoint's shards on a node."""
        place = self.root / f"node-{number}" / folder
        return (place / f"checkpoint-{step}" if folder == "train" else place) / f"iter_{step:07d}"

    def save(self, step: int) -> None:
        for number in (1, 2):
            folder = self.at(number, step).parent
            trees.megatron(folder, step, ranks=[number - 1], rank0=number == 1)

    def found(self) -> list[Candidate]:
        return candidates(self.ledger())

    def ledger(self) -> Ledger:
        folders = {
            node: {str(self.root / node / name): name for name in ("train", "resume")}
            for node in NODES
        }
        told = {
            node: layout.scan(list(paths), 0, time.time_ns() + LATER)
            for node, paths in folders.items()
        }
        return make_ledger("r", NODES, told, folders)


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def test_parts_on_two_nodes_are_one_whole_checkpoint(disks: Disks) -> None:
    (one,) = disks.found()
    assert (one.name, one.holder, one.lacking) == ("checkpoint-10", "node-1", ())


def _lose(number: int, name: str) -> Callable[[Disks], object]:
    return lambda disks: (disks.at(number, 10) / name).unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_lose(2, "__1_0.distcp"), "__1_0.distcp"),
        (lambda disks: (disks.at(2, 10) / "__1_0.distcp").write_bytes(b"x"), "not whole"),
        (_lose(1, "../args.json"), "args.json"),
        (_lose(1, ".metadata"), ".metadata"),
        (lambda disks: (disks.at(2, 10) / ".metadata").write_bytes(b"other"), ".metadata"),
    ],
)
def test_what_is_not_whole_says_what_is_lacking(
    disks: Disks, change: Callable[[Disks], object], said: str
) -> None:
    change(disks)
    (one,) = disks.found()
    assert any(said in reason for reason in one.lacking), one.lacking


def test_small_files_that_lie_apart_are_of_no_use(disks: Disks) -> None:
    args = disks.at(1, 10).parent / "args.json"
    args.rename(disks.at(2, 10).parent / "args.json")
    (one,) = disks.found()
    assert one.holder == ""
    assert "together" in one.lacking[0]


def test_a_checkpoint_that_was_gathered_is_whole_without_the_other_node(disks: Disks) -> None:
    for shard in disks.at(2, 10).glob("*.distcp"):
        shard.rename(disks.at(1, 10) / shard.name)
    (one,) = disks.found()
    assert (one.holder, one.lacking) == ("node-1", ())


def test_what_it_went_on_from_before_counts_apart_from_what_it_saved(disks: Disks) -> None:
    """Half of a checkpoint in one folder and half of it in the other make no whole one."""
    there = disks.at(2, 10, "resume")
    there.parent.mkdir(parents=True)
    disks.at(2, 10).rename(there)
    assert len(disks.found()) == 2
    assert all(item.lacking for item in disks.found())


def test_a_later_checkpoint_that_is_not_whole_is_passed_over_and_told(disks: Disks) -> None:
    disks.save(20)
    (disks.at(2, 20) / "__1_0.distcp").unlink()
    decision = decide({"node-1": "failed", "node-2": "failed"}, disks.found(), 2)
    assert decision.how is How.CONTINUE
    assert decision.checkpoint is not None
    assert decision.checkpoint.iteration == 10
    assert decision.detail.startswith(
        "training goes on from checkpoint-10; checkpoint-20 cannot be gone on from: 1 file"
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
    assert decide(jobs, WHOLE, 2).how is how


def test_without_a_whole_checkpoint_it_begins_again_and_says_why(disks: Disks) -> None:
    (disks.at(2, 10) / "__1_0.distcp").unlink()
    decision = decide({"node-1": "failed", "node-2": "failed"}, disks.found(), 2)
    assert decision.how is How.BEGIN
    assert "begins again" in decision.detail
    assert "checkpoint-10 cannot be gone on from" in decision.detail
    absent = decide({"node-1": "absent", "node-2": "absent"}, [], 2)
    assert absent.detail == "training had not begun"


def run(**more: Any) -> RunSpec:
    """A run that goes on from another one's checkpoint, at the sizes that it was saved at."""
    document: dict[str, Any] = {
        "name": "second",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 20},
        "method": {"tuner": "full"},
        "parallel": {"pipeline": 2},
        "resume": {"from": "r"},
        **more,
    }
    return RunSpec.from_document({"run": document}, Path("/nowhere/run.yml"))


def said(disks: Disks, spec: RunSpec, *, any_size: bool = False) -> list[str]:
    assert spec.resume is not None
    found = chosen(disks.ledger(), spec.resume)
    assert found is not None
    return [str(finding) for finding in fits(found, spec, any_size=any_size)]


@pytest.mark.parametrize("mode", ["continue", "restart"])
@pytest.mark.parametrize("any_size", [True, False])
def test_lora_of_another_tensor_size_is_never_gone_on_from(
    disks: Disks, mode: str, any_size: bool
) -> None:
    """Its gate and up would be read in another order, without a word."""
    spec = run(method={"tuner": "lora"}, resume={"from": "r", "mode": mode})
    assert spec.resume is not None
    found = chosen(disks.ledger(), spec.resume)
    assert found is not None
    lora = replace(found, kind="mcore_lora", parallel={**found.parallel, "tensor": 2})
    (told,) = fits(lora, spec, any_size=any_size)
    assert told.expected == "parallel.tensor: 2, which LoRA's weights are bound to"
    assert told.remedy == "set parallel.tensor to 2"
    assert fits(replace(lora, parallel=found.parallel), spec, any_size=any_size) == []


def test_a_checkpoint_of_the_same_training_fits(disks: Disks) -> None:
    assert said(disks, run()) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"method": {"tuner": "lora"}}, "adapters of LoRA, as method.tuner is lora"),
        ({"parallel": {"tensor": 2, "pipeline": 2}}, "parallel.tensor: 1"),
        ({"parallel": {"pipeline": 1}}, "set parallel.pipeline to 2"),
    ],
)
def test_what_does_not_fit_is_told_before_the_launch(
    disks: Disks, more: dict[str, Any], expected: str
) -> None:
    (told,) = said(disks, run(**more))
    assert expected in told


def test_weights_alone_and_an_optimizer_of_one_rank_fit_any_sizes(disks: Disks) -> None:
    other = {"parallel": {"pipeline": 1}}
    assert said(disks, run(**other), any_size=True) == []
    assert said(disks, run(**other, resume={"from": "r", "mode": "restart"})) == []


def test_weights_alone_cannot_be_gone_on_from_but_started_from(disks: Disks) -> None:
    for number in (1, 2):
        trees.megatron(
            disks.at(number, 10).parent,
            10,
            ranks=[number - 1],
            rank0=number == 1,
            keys=["decoder.layers.mlp.linear_fc1.weight"],
        )
    (told,) = said(disks, run())
    assert "resume.mode: restart" in told
    assert said(disks, run(resume={"from": "r", "mode": "restart"})) == []


def test_a_lost_shard_is_no_start_either(disks: Disks) -> None:
    (disks.at(2, 10) / "__1_0.distcp").unlink()
    for mode in ("continue", "restart"):
        (told,) = said(disks, run(resume={"from": "r", "mode": mode}))
        assert "__1_0.distcp" in told


def test_the_named_checkpoint_is_looked_at_or_the_latest_that_was_finished(disks: Disks) -> None:
    disks.save(20)
    disks.save(30)
    (disks.at(1, 30).parent / trees.TRACKER).unlink()
    steps = {}
    for source in ("r", "r/checkpoint-10", "r/checkpoint-11"):
        spec = run(resume={"from": source})
        assert spec.resume is not None
        found = chosen(disks.ledger(), spec.resume)
        steps[source] = found.iteration if found else None
    assert steps == {"r": 20, "r/checkpoint-10": 10, "r/checkpoint-11": None}


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
