"""Which saves are gathered while training goes on, and when."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.ahead import Ahead
from pyswiftops.errors import BadInputError
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

FLEET: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "local",
    "device": "cpu",
    "root": "/srv/nodes",
    "nodes": [{"name": "node-1"}, {"name": "node-2"}],
}


def plan(folder: Path, **gather: Any) -> Plan:
    run = {
        "name": "r",
        "model": {"path": "/models/m"},
        "data": {"train": ["/rows.jsonl"]},
        "training": {"iterations": 10, "save_every": 2},
        "parallel": {"pipeline": 2},
        "gather": gather,
    }
    fleet = Fleet.from_document(FLEET, folder / "fleet.yml")
    return make_plan(fleet, RunSpec.from_document({"run": run}, folder / "run.yml"), "r")


class Watched(Ahead):
    """Notes which saves would be gathered; the first is held until it is let go."""

    def __init__(self, found: Plan, folder: Path) -> None:
        super().__init__(found, RunFolder(folder, "r"), lambda *_: None, lambda: False)
        self.done: list[int] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def _gather(self, save: int) -> None:
        self.begun.set()
        self.go.wait(10)
        self.done.append(save)

    def step(self, number: int) -> None:
        self.take(ModuleResult("job", "", "node-2", {"progress": {"step": number}}, failed=False))


def test_a_save_is_gathered_once_a_later_step_is_logged(tmp_path: Path) -> None:
    ahead = Watched(plan(tmp_path, ahead=1), tmp_path)
    ahead.go.set()
    with ahead:
        ahead.step(1)
        ahead.step(2)  # saved, perhaps not to its end
        assert not ahead.begun.wait(0.1)
        ahead.step(3)
        assert ahead.begun.wait(5)
    assert ahead.done == [2]


def test_saves_that_came_meanwhile_are_one(tmp_path: Path) -> None:
    ahead = Watched(plan(tmp_path, ahead=1), tmp_path)
    with ahead:
        ahead.step(3)
        assert ahead.begun.wait(5)
        ahead.step(5)
        ahead.step(7)
        ahead.begun.clear()
        ahead.go.set()
        assert ahead.begun.wait(5)
    assert ahead.done == [2, 6]


def test_nothing_is_gathered_unless_asked_for(tmp_path: Path) -> None:
    ahead = Watched(plan(tmp_path), tmp_path)
    with ahead:
        ahead.step(3)
    assert ahead.done == []


def test_it_needs_saves_before_the_end(tmp_path: Path) -> None:
    document = plan(tmp_path, ahead=1).spec.model_dump(mode="json", by_alias=True)
    del document["training"]["save_every"]
    with pytest.raises(BadInputError, match="save_every"):
        RunSpec.from_document({"run": document}, tmp_path / "run.yml")
