"""Nodes are looked at before whatever is launched; only what they tell is stood in for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.cli.show import event_line
from pyswiftops.client import Client
from pyswiftops.errors import PreflightError
from pyswiftops.events import EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.preflight import playing
from pyswiftops.preflight.report import Report, judge
from pyswiftops.results import JobStatus
from pyswiftops.store import RunStore

from .faults import FAULTS
from .healthy import asked, facts, fleet, run

IDLE = ["fetch"]  # a stage that has nothing to do for this plan, so that nothing is started


class Place:
    """A client whose nodes tell what a test wants, and what was asked of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = Client(folder / "runs")
        self.report = self.told()
        self.state = "absent"
        self.looks = 0
        self.plan = self.planned()
        monkeypatch.setattr(playing, "preflight", self._look)
        monkeypatch.setattr(Client, "status", self._status)

    def told(self, *faults: str) -> Report:
        wanted = asked()
        seen = facts(wanted)
        for name in faults:
            FAULTS[name].put(seen)
        return judge(wanted, seen)

    def planned(self, preflight: dict[str, Any] | None = None) -> Plan:
        return make_plan(fleet(1, preflight=preflight or {}), run(), "r")

    def _look(self, *_: Any) -> Report:
        self.looks += 1
        return self.report

    def _status(self, *_: Any, **__: Any) -> list[JobStatus]:
        return [JobStatus("node-1", "train", self.state)]

    def apply(self, **options: Any) -> None:
        self.client.apply(self.plan, stages=IDLE, **options)

    @property
    def kept(self) -> RunStore:
        return RunStore(RunFolder(self.client.runs, "r"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_what_blocks_a_new_run_leaves_nothing_behind(place: Place) -> None:
    place.report = place.told("full-shm")
    with pytest.raises(PreflightError, match="free in /dev/shm"):
        place.apply()
    assert not place.client.runs.exists()


def test_it_is_left_out_where_the_caller_or_the_fleet_file_says_so(place: Place) -> None:
    place.report = place.told("full-shm")
    place.apply(preflight=False)
    place.plan = place.planned({"before_launch": False})
    place.client.remove("r", nodes=False)
    place.apply()
    assert place.looks == 0


def test_a_warning_goes_into_the_runs_events_and_stops_nothing(place: Place) -> None:
    place.report = place.told("another-driver")
    place.apply()
    (told,) = [event for event in place.kept.events() if event.kind is EventKind.PREFLIGHT]
    assert told.data["check"] == "gpus"
    assert "remedy" in event_line(told)
    assert [event.kind for event in place.kept.events()][-1] is EventKind.RUN_FINISHED


def test_a_run_that_goes_on_is_looked_at_too(place: Place) -> None:
    place.kept.create(place.plan)
    place.report = place.told("full-shm")
    with pytest.raises(PreflightError, match="free in /dev/shm"):
        place.client.resume("r")
    assert [event.kind for event in place.kept.events()][-1] is EventKind.RUN_FAILED
    with pytest.raises(PreflightError):
        place.apply()


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_run_whose_job_lives_is_joined_without_a_look(place: Place, state: str) -> None:
    place.kept.create(place.plan)
    place.report, place.state = place.told("full-shm"), state
    place.apply()
    assert place.looks == 0


def test_a_run_that_has_nothing_left_to_launch_is_not_looked_at(place: Place) -> None:
    place.apply()
    place.report = place.told("full-shm")
    place.apply()
    assert place.looks == 1
    with pytest.raises(PreflightError):
        place.apply(again=True)


def test_of_a_run_that_goes_on_a_silent_node_is_left_to_the_stage_that_needs_it(
    place: Place,
) -> None:
    wanted = asked()
    seen = facts(wanted)
    gone = next(iter(seen))
    place.report = judge(wanted, {n: f for n, f in seen.items() if n != gone}, silent={gone: "x"})
    assert [item.check for item in place.report.blocking] == ["nodes"]
    with pytest.raises(PreflightError):
        place.apply()
    place.kept.create(place.plan)
    place.apply()
    assert place.looks == 2
    place.report = replace(place.report, findings=place.told("full-shm").findings)
    with pytest.raises(PreflightError):
        place.apply(again=True)
