"""run.json and the lock: one plan a run id, one controller a run."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyswiftops.errors import RunConflictError, RunNotFoundError
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.states import StageState, run_state
from pyswiftops.store import RunStore

AT = Path("/nowhere/x.yml")


def plan(iterations: int = 1) -> Plan:
    fleet = Fleet.from_document(
        {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": "/fleet",
            "nodes": [{"name": "node-1"}],
        },
        AT,
    )
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": iterations},
    }
    return make_plan(fleet, RunSpec.from_document({"run": run}, AT), "r")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore(RunFolder(tmp_path / "runs", "r"))
    made.create(plan())
    return made


def test_the_plan_is_kept_beside_the_state(store: RunStore) -> None:
    assert json.loads(store.folder.plan.read_text(encoding="utf-8")) == plan().to_dict()
    assert Fleet.load(store.folder.fleet) == plan().fleet


def test_a_plan_that_took_another_s_place_is_in_force_and_the_first_is_kept(
    store: RunStore,
) -> None:
    kept = store.revise(plan(2))
    assert Path(kept) == store.folder.kept_plan(1)
    assert store.plan().to_dict() == plan(2).to_dict()
    assert store.first_plan().to_dict() == plan().to_dict()
    assert Fleet.load(store.folder.kept_fleet(1)) == plan().fleet
    for begun in (plan(), plan(2)):  # either joins, and gets the one in force
        assert store.create(begun).to_dict() == plan(2).to_dict()
    store.revise(plan(3))
    assert store.first_plan().to_dict() == plan().to_dict()
    assert store.plan(store.folder.kept_plan(2)).to_dict() == plan(2).to_dict()
    with pytest.raises(RunConflictError):
        store.create(plan(4))


def test_the_same_plan_joins_and_another_is_refused(store: RunStore) -> None:
    store.update("data", state="succeeded")
    store.create(plan())
    assert store.stage_state("data") is StageState.SUCCEEDED
    with pytest.raises(RunConflictError, match="another spec or fleet"):
        store.create(plan(iterations=2))


def test_an_unknown_run_names_the_known_ones(store: RunStore) -> None:
    with pytest.raises(RunNotFoundError, match="runs r"):
        RunStore(RunFolder(store.folder.runs, "none")).load()


def test_a_state_of_another_version_is_refused(store: RunStore) -> None:
    state = store.load()
    store.folder.state.write_text(json.dumps({**state, "version": 99}), encoding="utf-8")
    with pytest.raises(RunConflictError, match="version 99"):
        store.load()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": null}'])
def test_a_state_that_is_none_is_refused(store: RunStore, text: str) -> None:
    store.folder.state.write_text(text, encoding="utf-8")
    with pytest.raises(RunConflictError, match=r"run\.json of version"):
        store.load()


def test_a_state_of_version_1_is_migrated(store: RunStore) -> None:
    """As the first release wrote it."""
    old = {
        "version": 1,
        "run_id": "r",
        "digest": plan().digest,
        "fleet": "fleet",
        "created_at": 1.0,
        "stages": {"data": {"state": "succeeded", "seconds": 2.0}, "train": {"state": "running"}},
        "state": "running",
    }
    store.folder.state.write_text(json.dumps(old), encoding="utf-8")
    state = store.load()
    assert (state["version"], state["controller"]) == (2, None)
    assert state["requested"] == ["data", "train"]
    assert state["stages"] == old["stages"]
    store.update("train", state="failed")
    assert json.loads(store.folder.state.read_text(encoding="utf-8"))["version"] == 2


def test_the_plan_is_the_same_after_the_file(store: RunStore) -> None:
    read = store.plan()
    assert read == plan()
    assert read.digest == plan().digest


def test_a_plan_that_cannot_be_read_is_refused(store: RunStore) -> None:
    store.folder.plan.write_text("{}", encoding="utf-8")
    with pytest.raises(RunConflictError, match="a plan of this version"):
        store.plan()


def test_who_drives_the_run_is_recorded(store: RunStore) -> None:
    assert not store.driven()
    with store.driving(["data", "train"]):
        assert store.driven()
        state = store.load()
        assert state["controller"]["pid"] == os.getpid()
        assert state["requested"] == ["data", "train"]
    assert not store.driven()
    assert store.load()["controller"] is None


def test_a_request_to_stop_holds_for_the_controller_that_was_asked(store: RunStore) -> None:
    with store.driving():
        store.ask_to_stop()
        assert store.asked_to_stop()
    with store.driving():
        assert not store.asked_to_stop()


def _drive(folder: RunFolder, answers: multiprocessing.SimpleQueue[str]) -> None:
    try:
        with RunStore(folder).driving():
            answers.put("driving")
    except RunConflictError as problem:
        answers.put(str(problem))


def test_a_second_controller_is_refused_while_the_first_drives(store: RunStore) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with store.driving():
        other = context.Process(target=_drive, args=(store.folder, answers))
        other.start()
        assert "one controller a run" in answers.get()
        other.join()
    other = context.Process(target=_drive, args=(store.folder, answers))
    other.start()
    assert answers.get() == "driving"
    other.join()


def test_a_look_at_who_drives_keeps_no_controller_out(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.folder.lock.open("w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)  # as driven() does
        # the look ends while the controller waits, whatever the machine's speed
        monkeypatch.setattr(time, "sleep", lambda _seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with store.driving():
            assert store.driven()


def test_two_who_change_the_state_at_once_lose_nothing(store: RunStore) -> None:
    def change(stage: str) -> None:
        mine = RunStore(store.folder)  # as in a process of its own: nothing shared but the files
        for number in range(30):
            mine.update(f"{stage}-{number}", state="succeeded")

    with ThreadPoolExecutor() as pool:
        list(pool.map(change, ["train", "deploy"]))
    assert len(store.load()["stages"]) == 60


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], StageState.PENDING),
        (["succeeded", "succeeded"], StageState.SUCCEEDED),
        (["succeeded", "running"], StageState.RUNNING),
        (["succeeded", "pending"], StageState.RUNNING),
        (["failed", "running"], StageState.FAILED),
        (["stopped", "succeeded"], StageState.STOPPED),
    ],
)
def test_a_run_is_as_its_stages(stages: list[str], expected: StageState) -> None:
    assert run_state(StageState(stage) for stage in stages) is expected


def test_two_that_begin_a_run_at_the_same_instant_do_not_overwrite_each_other(
    tmp_path: Path,
) -> None:
    for attempt in range(20):
        folder = RunFolder(tmp_path / str(attempt), "r")
        plans = [plan(1), plan(2)]
        start = threading.Barrier(2)

        def begin(made: Plan, folder: RunFolder = folder, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                RunStore(folder).create(made)
            except RunConflictError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(begin, plans))
        assert sorted(made) == [False, True]
        winner = plans[made.index(True)]
        assert RunStore(folder).load()["digest"] == winner.digest
        assert RunStore(folder).plan().digest == winner.digest


def test_who_follows_a_run_that_begins_again_waits_for_its_new_events(store: RunStore) -> None:
    """The lock is taken a moment before the first event is written."""
    store.record(Event(EventKind.RUN_FINISHED, "", 1.0))
    seen: list[Event] = []
    with store.driving(["data"]):
        follower = threading.Thread(target=lambda: seen.extend(store.events(follow=True)))
        follower.start()
        time.sleep(0.5)
        store.record(Event(EventKind.RUN_STARTED, "", 0.0))
    follower.join(30)
    assert [event.kind for event in seen] == [EventKind.RUN_FINISHED, EventKind.RUN_STARTED]
