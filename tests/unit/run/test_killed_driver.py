"""A driver that is killed at random moments of a stage on two nodes: the next one joins the job."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.paths import NodePaths, RunFolder
from pyswiftops.planner.plan import Plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.command import Command
from pyswiftops.store import RunStore

from .test_store import plan as some_plan

SEED, KILLS, SECONDS = 7, 5, 300.0

DRIVER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from pyswiftops.client import Client
    from pyswiftops.paths import RunFolder
    from pyswiftops.store import RunStore

    runs = Path(sys.argv[1])
    Client(runs).apply(RunStore(RunFolder(runs, "r")).plan(), stages=["train"])
""")

# Ends once it may; a rank of a job that lives as long as the test wants.
RANK = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)"


def attempts(folder: Path) -> list[dict[str, Any]]:
    """The states of all attempts at a job, in the order of their start."""
    states = [json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob("state.json")]
    return sorted(states, key=lambda state: float(state["started_at"]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_job_succeeds_once_and_never_runs_twice_at_once(tmp_path: Path) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": str(tmp_path / "nodes"),
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    go_on = tmp_path / "go-on"
    argv = (sys.executable, "-c", RANK, str(go_on))
    jobs = {
        "train": [
            Command("train", node.name, argv, {}, (), str(tmp_path), fate=True)
            for node in fleet.nodes
        ]
    }
    store = RunStore(RunFolder(tmp_path / "runs", "r"))
    store.create(Plan("r", fleet, some_plan().spec, jobs))
    driver = [sys.executable, "-c", DRIVER, str(tmp_path / "runs")]
    chance = random.Random(SEED)  # noqa: S311 a test's
    said = tmp_path / "said"
    for _ in range(KILLS):
        with said.open("ab") as output:
            process = subprocess.Popen(driver, stdout=output, stderr=output)
        deadline = time.monotonic() + SECONDS
        while not store.driven():
            assert process.poll() is None, said.read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 4))
        assert process.poll() is None, said.read_text(encoding="utf-8")
        process.kill()
        process.wait()
        assert not store.driven()
        assert store.load()["stages"].get("train", {}).get("state") in {None, "running"}
    go_on.touch()
    done = subprocess.run(driver, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert store.load()["stages"]["train"]["state"] == "succeeded"
    for node in fleet.nodes:
        states = attempts(Path(NodePaths(fleet.node_root(node), "r").job("train")))
        ends = [state["state"] for state in states]
        assert ends.count("succeeded") == 1, ends
        for earlier, later in pairwise(states):
            assert earlier["ended_at"] <= later["started_at"], node.name
