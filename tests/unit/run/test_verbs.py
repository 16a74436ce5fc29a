"""Verbs of the SDK that ask the nodes, with real Ansible, on two local nodes."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.errors import BadInputError, RunConflictError, RunNotFoundError, StageFailedError
from pyswiftops.paths import NodePaths
from pyswiftops.planner.plan import make_plan
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

pytestmark = pytest.mark.slow

ANSIBLES_OWN = {"invocation", "_ansible_no_log", "item", "ansible_loop_var", "_ansible_item_label"}


class Place:
    """Two local nodes and a run of which nothing has run yet."""

    def __init__(self, folder: Path, run_module: Callable[..., dict[str, Any]]) -> None:
        document = {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": str(folder / "nodes"),
            "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        }
        run = {
            "name": "r",
            "model": {"path": "/m"},
            "data": {"train": ["/d"]},
            "training": {"iterations": 1},
        }
        self.fleet = Fleet.from_document(document, folder / "fleet.yml")
        self.spec = RunSpec.from_document({"run": run}, folder / "run.yml")
        self.client = Client(folder / "runs")
        self.client._store("r").create(make_plan(self.fleet, self.spec, "r"))
        self._run_module = run_module

    def paths(self, node: str) -> NodePaths:
        return NodePaths(str(Path(self.fleet.root) / node), "r")

    def job(self, node: str, job: str, program: str) -> None:
        """Start a job that stands where a stage's job would."""
        self._run_module(
            "job",
            state="started",
            directory=self.paths(node).job(job),
            run_id="r",
            stage=job,
            node=node,
            argv=[sys.executable, "-u", "-c", program],
        )


@pytest.fixture
def place(tmp_path: Path, run_module: Callable[..., dict[str, Any]]) -> Place:
    return Place(tmp_path, run_module)


def test_a_command_runs_on_every_node_without_a_shell(place: Place) -> None:
    words = ["python", "-c", "import sys; print(sys.executable, sys.argv[1:])", "$HOME; {{ 'x' }}"]
    results = place.client.execute(place.fleet, words)
    assert [(item.node, item.code) for item in results] == [("node-1", 0), ("node-2", 0)]
    assert results[0].stdout.startswith(str(Path(sys.executable).parent))
    assert "$HOME; {{ 'x' }}" in results[0].stdout
    failed = place.client.execute(place.fleet, ["no-such-program-anywhere"])
    assert [item.code for item in failed] == [127, 127]
    with pytest.raises(BadInputError, match="a command"):
        place.client.execute(place.fleet, [])


def test_logs_are_followed_until_the_jobs_end(place: Place) -> None:
    talk = "import time\nfor n in range(4):\n    print('line', n)\n    time.sleep(1)\n"
    for node in ("node-1", "node-2"):
        place.job(node, "train", talk)
    lines = list(place.client.logs("r", jobs=["train"], follow=True))
    for node in ("node-1", "node-2"):
        texts = [line.text for line in lines if line.node == node]
        assert texts == [f"line {number}" for number in range(4)]
    last = list(place.client.logs("r", jobs=["train"], node="node-2", tail=1))
    assert [(line.node, line.text) for line in last] == [("node-2", "line 3")]


def test_logs_since_a_time_leave_earlier_lines_out(place: Place, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"while not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.05)\n"
    talk = f"print('old', flush=True)\n{wait}print('new')\nprint('last')"
    place.job("node-1", "train", f"import pathlib, time\n{talk}")
    notes = Path(place.paths("node-1").job("train"), "log.times")
    while not notes.exists() or not notes.read_text():
        time.sleep(0.05)
    since = time.time()
    asked = {"jobs": ["train"], "since": since}
    assert list(place.client.logs("r", tail=None, **asked)) == []
    go.touch()
    for follow, tail in ((True, None), (False, None), (False, 5)):
        lines = place.client.logs("r", tail=tail, follow=follow, **asked)
        assert [line.text for line in lines] == ["new", "last"]
    whole = place.client.logs("r", jobs=["train"], tail=None)
    assert [line.text for line in whole] == ["old", "new", "last"]
    (one,) = place.client.logs("r", tail=1, **asked)
    assert one.text == "last"


def test_a_node_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and not listened on: refused at once
        document = {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "host",
            "device": "cpu",
            "ssh": {"user": "nobody", "port": nobody.getsockname()[1]},
            "nodes": [{"name": "node-1", "address": "127.0.0.1"}],
        }
        run = {
            "name": "r",
            "model": {"path": "/m"},
            "data": {"train": ["/d"]},
            "training": {"iterations": 1},
        }
        fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
        spec = RunSpec.from_document({"run": run}, tmp_path / "run.yml")
        client = Client(tmp_path / "runs")
        client._store("r").create(make_plan(fleet, spec, "r"))
        (told,) = client.status("r", jobs=["train", "deploy"])
        assert (told.node, told.job, told.state) == ("node-1", "", "unreachable")
        assert told.detail
        for follow in (False, True):
            with pytest.raises(StageFailedError, match="node-1"):
                list(client.logs("r", jobs=["train"], follow=follow))


def test_a_run_with_a_living_job_is_not_removed(place: Place) -> None:
    place.job("node-2", "deploy", "import time; time.sleep(600)")
    with pytest.raises(RunConflictError, match="deploy on node-2"):
        place.client.remove("r")
    assert [run.run_id for run in place.client.list_runs()] == ["r"]
    (ended,) = place.client.stop("r")
    assert (ended.job, ended.node) == ("deploy", "node-2")
    place.client.remove("r")
    assert place.client.list_runs() == []
    assert not Path(place.paths("node-2").run).exists()
    assert Path(place.fleet.root, "node-2").is_dir()
    with pytest.raises(RunNotFoundError):
        place.client.remove("r")


def test_local_nodes_answer_without_ansible_what_the_playbook_says(place: Place) -> None:
    place.job("node-1", "train", "print('one'); raise SystemExit(3)")
    nodes = place.client._nodes("r")
    jobs = ["train", "deploy"]
    while nodes.jobs("r", jobs)[0].data["state"] != "failed":
        time.sleep(0.05)
    quick = nodes.jobs("r", jobs, tail=5, log_from={"node-1/train": 0}, log_since=1.0)
    variables = {
        "swiftops_run_id": "r",
        "swiftops_jobs": jobs,
        "swiftops_tail": 5,
        "swiftops_log_from": {"node-1/train": 0},
        "swiftops_log_since": 1.0,
    }
    played = [item for item in nodes.play("status", variables).results if item.action == "job"]

    def told(results: list[ModuleResult]) -> dict[tuple[str, str], dict[str, Any]]:
        return {
            (item.node, item.data["directory"]): {
                key: value for key, value in item.data.items() if key not in ANSIBLES_OWN
            }
            for item in results
        }

    assert told(quick) == told(played)
    assert quick[0].data["log_tail"] == quick[0].data["log_lines"] == ["one"]
