"""A rank is killed twice and its node is lost: training goes on each time, with the same losses."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.store import RunStore

from .conftest import running, swiftops
from .test_failure import rank_of, state
from .tiny import BATCH, Place, make_place, steps_of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

STEPS, EVERY = 8, 2
TRACKER = "latest_checkpointed_iteration.txt"
TRAINING = {
    "iterations": STEPS,
    "micro_batch_size": 2,
    "global_batch_size": BATCH,
    "save_every": EVERY,
    "learning_rate": 1e-3,
}


@pytest.fixture
def place() -> Iterator[Place]:
    """In a folder with a short path: jobs make sockets far below it."""
    with tempfile.TemporaryDirectory(prefix="go-") as folder:
        yield make_place(Path(folder), spare=True)


def kill_after(place: Place, step: int) -> list[int]:
    """Kill node-2's rank as soon as a checkpoint is saved; returns all processes of the try."""
    tracker = place.on(1, "hit") / "train" / f"checkpoint-{step}" / TRACKER
    deadline = time.monotonic() + 300
    while not tracker.exists():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)  # before the next one is saved
    jobs = [place.on(number, "hit") / "jobs" / "train" for number in (1, 2)]
    victim = rank_of(jobs[1])
    assert victim is not None
    started = [pid for job in jobs for pid, _ in state(job)["descendants"]]
    os.kill(victim, signal.SIGKILL)
    return started


def told(place: Place, kind: EventKind) -> list[dict[str, Any]]:
    events: Iterator[Event] = RunStore(RunFolder(place.client.runs, "hit")).events()
    return [dict(event.data) for event in events if event.kind is kind]


def test_killed_twice_and_moved_to_a_spare_it_logs_what_an_uninterrupted_one_does(
    place: Place,
) -> None:
    whole = place.spec("whole", tuner="lora", training=TRAINING)
    place.apply(whole, "convert", "train")
    uninterrupted = place.steps("whole")
    assert list(uninterrupted) == [f"{step}/{STEPS}" for step in range(1, STEPS + 1)]

    retry = {"attempts": 1, "pause": 0}
    spec = place.spec("hit", tuner="lora", training=TRAINING, retry=retry)
    plan = place.client.plan(place.fleet, spec)
    caught: list[BaseException] = []

    def train() -> None:
        try:
            place.client.apply(plan, stages=["convert", "train"])
        except StageFailedError as problem:
            caught.append(problem)

    thread = threading.Thread(target=train)
    thread.start()
    first = kill_after(place, EVERY)
    second = kill_after(place, 2 * EVERY)  # of the try that the run itself made
    thread.join(120)
    (problem,) = caught
    assert isinstance(problem, StageFailedError)
    assert problem.node == "node-2"
    assert set(first).isdisjoint(second)
    assert not running([*first, *second])
    assert [item["attempt"] for item in told(place, EventKind.RETRY)] == [1]
    assert [item["iteration"] for item in told(place, EventKind.CONTINUED)] == [EVERY]
    before = steps_of(place.on(2, "hit"))
    assert before == {step: uninterrupted[step] for step in before}

    lost = place.folder / "nodes" / "node-2"
    lost.rename(place.folder / "lost")  # and with it its shards of checkpoints 2 and 4
    runs = str(place.client.runs)
    assert swiftops("resume", "hit", "--runs", runs, "--replace", "node-2=node-9").returncode == 2
    done = swiftops("resume", "hit", "--runs", runs, "--replace", "node-2=node-3", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert not lost.exists()  # nobody asked it

    (replaced,) = told(place, EventKind.REPLACED)
    assert replaced["nodes"] == {"node-2": "node-3"}
    assert json.loads(Path(replaced["kept"]).read_text(encoding="utf-8"))["run"]["retry"]
    last = told(place, EventKind.CONTINUED)[-1]
    assert last["iteration"] == EVERY  # which the first resume had put whole on node-1
    assert f"checkpoint-{2 * EVERY} cannot be gone on from" in last["detail"]
    after = steps_of(place.on(3, "hit"))
    assert after == {step: uninterrupted[step] for step in list(uninterrupted)[EVERY:]}
    assert (place.on(3, "hit") / "mcore").is_dir()
    shards = (place.on(3, "hit") / "train" / f"checkpoint-{STEPS}").rglob("*.distcp")
    assert {path.name.split("_")[2] for path in shards} == {"1"}
