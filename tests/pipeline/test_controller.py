"""A run that another process stops, watches, and resumes; real training on two local nodes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.errors import RunConflictError, RunStoppedError
from pyswiftops.events import Event, EventKind
from pyswiftops.planner.plan import Plan

from .conftest import Trained, swiftops

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RUN_ID = "stopped"


@pytest.fixture
def plan(trained: Trained) -> Plan:
    """The same training under another id, on what the demo left."""
    data = trained.spec.data.model_copy(update={"max_length": 64})
    training = trained.spec.training.model_copy(update={"iterations": 2})
    spec = trained.spec.model_copy(update={"data": data, "training": training})
    for number in (1, 2):
        here = trained.files.nodes / f"node-{number}" / "runs" / RUN_ID
        here.mkdir(parents=True)
        (here / "mcore").symlink_to(trained.node(number) / "mcore")
    return trained.client.plan(trained.fleet, spec, RUN_ID)


def test_stop_from_another_process_ends_the_controller_and_resume_goes_on(
    trained: Trained, plan: Plan
) -> None:
    running = threading.Event()
    caught: list[BaseException] = []

    def listen(event: Event) -> None:
        if event.kind is EventKind.NODE and event.data["state"] == "running":
            running.set()

    def drive() -> None:
        try:
            trained.client.apply(plan, stages=["train", "gather"], on_event=listen)
        except BaseException as problem:  # noqa: BLE001 looked at below
            caught.append(problem)

    thread = threading.Thread(target=drive)
    thread.start()
    assert running.wait(120)
    runs = str(trained.files.runs)
    assert [run.driven for run in trained.client.list_runs() if run.run_id == RUN_ID] == [True]
    with pytest.raises(RunConflictError, match="one controller a run"):
        Client(runs).resume(RUN_ID)
    seen: list[Event] = []
    watcher = threading.Thread(target=lambda: seen.extend(Client(runs).events(RUN_ID, follow=True)))
    watcher.start()
    done = swiftops("stop", RUN_ID, "--runs", runs)
    assert done.returncode == 0, done.stderr
    assert "stopped train on node-1" in done.stdout
    thread.join(120)
    watcher.join(120)
    (problem,) = caught
    assert isinstance(problem, RunStoppedError)
    assert f"swiftops resume {RUN_ID}" in str(problem)
    assert seen[-1].kind is EventKind.RUN_STOPPED
    assert state_of(trained, "train") == "stopped"
    assert not any(job.state == "running" for job in trained.client.status(RUN_ID))

    result = Client(runs).resume(RUN_ID)
    assert set(result.stages) == {"train", "gather"}
    assert state_of(trained, "gather") == "succeeded"
    steps = [
        event.data["step"]
        for event in trained.client.events(RUN_ID)
        if event.kind is EventKind.PROGRESS
    ]
    assert steps[-1] == 2


def state_of(trained: Trained, stage: str) -> Any:
    return trained.client.load(RUN_ID).stages[stage]["state"]
