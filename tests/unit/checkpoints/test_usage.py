"""Jobs, controllers and other runs keep the checkpoints that they need."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import layout

from pyswiftops.checkpoints import usage
from pyswiftops.checkpoints.ledger import Ledger
from pyswiftops.checkpoints.merging import make_ledger
from pyswiftops.checkpoints.retention import InUse
from pyswiftops.errors import StageFailedError
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RunFolder
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import RunStore

from . import trees

RUN = "tune"
NODES = ("node-1", "node-2")


class Answers(Nodes):
    """Nodes whose jobs stand as a test wants it."""

    def __init__(self, fleet: Fleet, *alive: str, silent: str = "") -> None:
        super().__init__(fleet)
        self.alive, self.silent = alive, silent

    def jobs(self, _run_id: str, jobs: Any, **_options: Any) -> list[ModuleResult]:
        if self.silent:
            data = {"msg": "no route"}
            return [ModuleResult("job", "", self.silent, data, failed=True, unreachable=True)]
        return [
            ModuleResult(
                "job",
                "",
                "node-1",
                {
                    "directory": f"/jobs/{job}",
                    "state": "running" if job in self.alive else "absent",
                },
                failed=False,
            )
            for job in jobs
        ]


@pytest.fixture
def held(trains: list[Path]) -> Ledger:
    """Three checkpoints on the first node."""
    for number in (10, 20, 30):
        trees.megatron(trains[0] / f"checkpoint-{number}", number)
    told = {"node-1": layout.scan([str(trains[0])], now_ns=time.time_ns() + 10**12)}
    return make_ledger(RUN, NODES[:1], told, {"node-1": {str(trains[0]): "train"}})


def look(tmp_path: Path, fleet: Fleet, held: Ledger, *alive: str, **options: Any) -> InUse:
    return usage.of_run(tmp_path / "runs", RUN, Answers(fleet, *alive, **options), held)


def gathered(tmp_path: Path, checkpoint: Path) -> None:
    store = RunStore(RunFolder(tmp_path / "runs", RUN))
    store.update("gather", state="succeeded", result={"checkpoint": str(checkpoint)})


def test_nothing_at_work_needs_nothing(tmp_path: Path, fleet: Fleet, held: Ledger) -> None:
    assert look(tmp_path, fleet, held) == InUse()
    assert look(tmp_path, fleet, held, "data", "convert") == InUse()


def test_a_living_training_is_told(tmp_path: Path, fleet: Fleet, held: Ledger) -> None:
    assert look(tmp_path, fleet, held, "train").training == "job train on node-1 is running"


@pytest.mark.parametrize("job", ["export", "deploy", "eval"])
def test_a_living_job_needs_the_checkpoint_that_was_gathered(
    tmp_path: Path, fleet: Fleet, held: Ledger, trains: list[Path], job: str
) -> None:
    assert look(tmp_path, fleet, held, job).unnamed == f"job {job} on node-1 is running"
    gathered(tmp_path, trains[0] / "checkpoint-10")
    found = look(tmp_path, fleet, held, job)
    assert found.checkpoints == {("train", "checkpoint-10"): f"job {job} on node-1 is running"}
    assert found.unnamed == ""


def test_a_driven_run_counts_as_training(
    tmp_path: Path, fleet: Fleet, held: Ledger, trains: list[Path]
) -> None:
    gathered(tmp_path, trains[0] / "checkpoint-20")
    with RunStore(RunFolder(tmp_path / "runs", RUN)).driving():
        found = look(tmp_path, fleet, held)
    assert found.training == "a controller drives the run"
    assert list(found.checkpoints) == [("train", "checkpoint-20")]


@pytest.mark.parametrize("by_path", [False, True])
def test_a_run_that_is_to_go_on_from_one_needs_it_until_it_has_trained(
    tmp_path: Path, fleet: Fleet, held: Ledger, trains: list[Path], by_path: bool
) -> None:
    other = RunFolder(tmp_path / "runs", "more")
    other.root.mkdir()
    other.state.write_text((tmp_path / "runs" / RUN / "run.json").read_text())
    source = str(trains[0] / "checkpoint-10") if by_path else f"{RUN}/checkpoint-10"
    other.plan.write_text(json.dumps({"run": {"resume": {"from": source, "mode": "continue"}}}))
    RunStore(other).update("train", state="pending")
    found = look(tmp_path, fleet, held)
    assert found.checkpoints == {("train", "checkpoint-10"): "run more is to go on from it"}
    RunStore(other).update("train", state="succeeded")
    assert look(tmp_path, fleet, held).checkpoints == {}


def test_a_node_that_does_not_tell_of_its_jobs_ends_it(
    tmp_path: Path, fleet: Fleet, held: Ledger
) -> None:
    with pytest.raises(StageFailedError, match="no route"):
        look(tmp_path, fleet, held, silent="node-2")
