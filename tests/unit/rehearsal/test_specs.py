"""What is rehearsed: the real run but for its length, in roots of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.paths import scratch_root
from pyswiftops.planner.plan import make_plan
from pyswiftops.rehearsal import Rehearsal, Step, rehearsal_spec, resumed_spec, scratch_fleet
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

AT = Path("/nowhere/run.yml")
FLEET: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "container",
    "root": "/data",
    "nodes": [
        {"name": "node-1", "address": "10.0.0.1", "gpus": 8},
        {"name": "node-2", "address": "10.0.0.2", "gpus": 8, "root": "/own"},
    ],
}
RUN: dict[str, Any] = {
    "name": "real",
    "model": {"path": "/models/m"},
    "data": {"train": ["/data/rows.jsonl"]},
    "training": {"epochs": 3, "global_batch_size": 64, "save_every": 100, "log_every": 10},
    "parallel": {"tensor": 4, "pipeline": 2, "sequence": True},
    "output": {"keep": 3},
    "tracking": {"report_to": ["wandb"], "project": "p"},
    "deploy": {"port": 8000},
    "smoke": {"questions": [{"ask": "a?", "expect": ["b"]}, {"ask": "c?"}]},
    "extra_args": {
        "train": {"train_iters": 9, "save_steps": 7, "lr_warmup_iters": 100, "packing": True}
    },
}


def spec(**more: Any) -> RunSpec:
    return RunSpec.from_document({"run": {**RUN, **more}}, AT)


def test_sizes_stay_and_length_goes() -> None:
    real = spec(resume={"from": "earlier"})
    short = rehearsal_spec(real, "4.6")
    for same in ("name", "model", "data", "method", "parallel"):
        assert getattr(short, same) == getattr(real, same)
    assert short.training.global_batch_size == real.training.global_batch_size
    assert (short.training.iterations, short.training.epochs, short.training.save_every) == (
        2,
        None,
        1,
    )
    assert short.extra_args["train"] == {"packing": True}
    assert short.tracking.report_to == ("tensorboard",)
    assert (short.deploy.port, short.resume) == ("auto", None)
    assert [(item.ask, item.expect) for item in short.smoke.questions] == [("a?", [])]
    assert short.smoke.max_tokens == 1
    assert RunSpec.model_validate(short.model_dump(mode="json")) == short


@pytest.mark.parametrize(
    ("optimizer", "mode", "steps"), [(True, "continue", 2), (False, "restart", 1)]
)
def test_the_second_pass_goes_on_from_the_first_ones_checkpoint(
    optimizer: bool, mode: str, steps: int
) -> None:
    again = resumed_spec(rehearsal_spec(spec(output={"save_optimizer": optimizer}), "4.6"))
    assert again.resume is not None
    assert (again.resume.source, again.resume.mode) == ("real/checkpoint-1", mode)
    assert again.training.iterations == steps


def test_nodes_work_in_scratch_roots_of_their_own() -> None:
    fleet = scratch_fleet(Fleet.from_document(FLEET, AT), "real")
    roots = [fleet.node_root(node) for node in fleet.nodes]
    assert [root.rpartition("/")[0] for root in roots] == [
        "/data/node-1/rehearsal",
        "/own/rehearsal",
    ]
    assert {len(root.rpartition("/")[2]) for root in roots} == {8}
    plan = make_plan(fleet, rehearsal_spec(spec(), "4.6"), "real")
    for commands in plan.jobs.values():
        for command in commands:
            assert "/rehearsal/" in command.cwd


def test_a_step_that_was_not_reached_is_no_success() -> None:
    assert Rehearsal(steps=[Step("train", ok=True)]).ok
    assert not Rehearsal(steps=[Step("train", ok=True), Step("gather", None)]).ok


def test_a_long_name_makes_no_long_root() -> None:
    """A socket's path may have 107 bytes, and jobs keep theirs below the root."""
    assert len(scratch_root("/data/swiftops/node-1", "n" * 64)) < 50
    assert scratch_root("/r", "a") != scratch_root("/r", "b")
