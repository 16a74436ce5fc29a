"""The controller of the demo is killed again and again; the run goes on each time, and ends well.

Only the controller's process is killed, as a crash would: its ansible-playbook has to end with it,
the jobs on the nodes have to go on, and the next controller has to join them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.demo.run import RUN_ID, DemoFiles, DemoOptions, clear, prepare
from pyswiftops.errors import RunConflictError, RunNotFoundError
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(2400)]

NAME, AUTHOR = "Swifty", "the pyswiftops team"  # the demo's own: what is learned hangs on them
SEED = 20261127
KILLS = 25
SECONDS = 900.0
LOOK_SECONDS = 0.02

CONTROLLER = textwrap.dedent("""
    import sys
    from pyswiftops.client import Client
    from pyswiftops.errors import RunNotFoundError
    from pyswiftops.specs.fleet import Fleet
    from pyswiftops.specs.run import RunSpec

    runs, fleet, run, run_id = sys.argv[1:]
    client = Client(runs)
    try:
        client.resume(run_id)
    except RunNotFoundError:  # the first, or killed before there was a run
        client.apply(client.plan(Fleet.load(fleet), RunSpec.load(run)))
""")


@pytest.fixture
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoFiles]:
    """The demo's files; what runs at the end is stopped."""
    folder = tmp_path_factory.mktemp("kills")  # short, as sockets lie below it
    files, _, _ = prepare(DemoOptions(NAME, AUTHOR, folder))
    yield files
    clear(files)


class Moment:
    """When to kill: ``delay`` seconds after a controller has begun ``stage`` or a later one."""

    def __init__(self, stage: str, delay: float) -> None:
        self.stage, self.delay = stage, delay

    def is_reached(self, events: list[Event]) -> bool:
        """Whether a controller whose events these are has come so far; "" is its very start."""
        order = list(CATALOG)
        late = order[order.index(self.stage) :] if self.stage else order
        started = {event.stage for event in events if event.kind is EventKind.STAGE_STARTED}
        return not self.stage or bool(started & set(late))


def moments(chance: random.Random) -> list[Moment]:
    """25 moments, spread over all stages, in the order of the stages.

    The first of a stage comes before Ansible can have done much, so that every stage is hit; the
    others anywhere in the seconds after it.
    """
    stages = [name for name in CATALOG if name != "fetch"]
    found = [Moment(name, chance.uniform(0, 1)) for name in stages]
    longer = ["data", "convert", "infer", "roundtrip", "train", "train", "train", "export"]
    found += [Moment(name, chance.uniform(1, 6)) for name in [*longer, "gather", "deploy"]]
    found += [Moment("", chance.uniform(0, 4)) for _ in range(KILLS - len(found))]
    order = ["", *CATALOG]
    return sorted(found, key=lambda moment: order.index(moment.stage))


def controller(files: DemoFiles, log: Path) -> subprocess.Popen[bytes]:
    words = [str(files.runs), str(files.fleet), str(files.run), RUN_ID]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", CONTROLLER, *words], stdout=output, stderr=output
        )


def wait_for(what: Callable[[], Any]) -> None:
    """Poll until ``what()`` is true."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(LOOK_SECONDS)


def attempts(files: DemoFiles) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(node, job) -> the states of all attempts at that job, in the order of their start."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in files.nodes.glob(f"*/runs/{RUN_ID}/jobs/*/**/state.json"):
        parts = path.relative_to(files.nodes).parts
        state = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault((parts[0], parts[4]), []).append(state)
    for states in found.values():
        states.sort(key=lambda state: state["started_at"])
    return found


def test_a_run_outlives_twenty_five_kills_of_its_controller(demo: DemoFiles) -> None:
    store = RunStore(RunFolder(demo.runs, RUN_ID))
    log = demo.folder / "controllers.log"
    hit: list[str] = []

    def events() -> list[Event]:
        try:
            return list(store.events())
        except RunNotFoundError:
            return []

    for moment in moments(random.Random(SEED)):  # noqa: S311 a test's
        seen = len(events())
        process = controller(demo, log)
        wait_for(
            lambda at=seen, until=moment, of=process: (
                of.poll() is not None or until.is_reached(events()[at:])
            )
        )
        time.sleep(moment.delay)
        assert process.poll() is None, f"ended by itself: {log.read_text(encoding='utf-8')}"
        if store.driven():
            with pytest.raises(RunConflictError), store.driving():
                pytest.fail("two drivers at once")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not store.driven()
        if store.folder.state.exists():
            recorded = store.load()
            running = [
                name
                for name, stage in recorded["stages"].items()
                if stage["state"] == StageState.RUNNING.value
            ]
            hit += running or ["between stages"]
        else:
            hit.append("before the run")

    last = controller(demo, log)
    wait_for(lambda: last.poll() is not None)
    assert last.returncode == 0, log.read_text(encoding="utf-8")

    assert {*CATALOG} - {"fetch"} <= set(hit), f"stages that no kill has hit; hit were {hit}"
    recorded = store.load()
    assert {stage["state"] for stage in recorded["stages"].values()} == {"succeeded"}
    answers = recorded["stages"]["smoke"]["result"]["answers"]
    (identity,) = [item["answer"] for item in answers if item["ask"] == "Who are you?"]
    assert NAME in identity
    assert AUTHOR in identity

    jobs = attempts(demo)
    assert {job for _, job in jobs} >= {job for stage in CATALOG.values() for job in stage.jobs} - {
        "fetch"
    }
    for (node, job), states in jobs.items():
        ends = [state["state"] for state in states]
        assert ends.count("running" if job == "deploy" else "succeeded") == 1, (node, job, ends)
        for earlier, later in pairwise(states):
            assert earlier["ended_at"] <= later["started_at"], f"{job} on {node} ran twice at once"
    assert len(list(events())) > KILLS
    assert not list(store.folder.private.glob("*/"))
    Client(demo.runs).stop(RUN_ID)
