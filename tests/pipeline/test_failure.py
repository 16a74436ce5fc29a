"""A rank that dies in the middle of training takes the whole job with it, and is named."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import StageFailedError
from pyswiftops.states import StageState

from .conftest import Trained, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RUN_ID = "killed"


def state(folder: Path) -> dict[str, Any]:
    """A job's state file, or nothing yet."""
    try:
        data: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data


def rank_of(folder: Path) -> int | None:
    """Pid of the process that runs Megatron itself, once it is there."""
    for pid, _ in state(folder).get("descendants", []):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"_megatron/sft.py") for word in words) and b"-m" not in words[:3]:
            return int(pid)
    return None


def wait_for(what: Any, seconds: float) -> Any:
    """Poll until ``what()`` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("waited in vain")


def test_one_killed_rank_stops_the_other_node_and_is_named(trained: Trained) -> None:
    data = trained.spec.data.model_copy(update={"max_length": 64})
    spec = trained.spec.model_copy(update={"data": data})
    plan = trained.client.plan(trained.fleet, spec, RUN_ID)
    jobs = []
    for number in (1, 2):
        here = trained.files.nodes / f"node-{number}" / "runs" / RUN_ID
        here.mkdir(parents=True)
        (here / "mcore").symlink_to(trained.node(number) / "mcore")
        jobs.append(here / "jobs" / "train")
    caught: list[BaseException] = []

    def train() -> None:
        try:
            trained.client.apply(plan, stages=["train"])
        except StageFailedError as problem:
            caught.append(problem)

    thread = threading.Thread(target=train)
    thread.start()
    victim = wait_for(lambda: all(map(rank_of, jobs)) and rank_of(jobs[1]), 60)
    started = {pid for job in jobs for pid, _ in state(job)["descendants"]}
    assert victim in started
    os.kill(victim, signal.SIGKILL)
    begin = time.monotonic()
    wait_for(lambda: state(jobs[0]).get("state") == "failed", 30)
    assert time.monotonic() - begin < 10
    thread.join(60)
    (problem,) = caught
    assert isinstance(problem, StageFailedError)
    assert problem.node == "node-2"
    assert "log on node-2" in problem.detail
    reason = state(jobs[0])["reason"]
    assert (reason["kind"], reason["node"]) == ("peer_failed", "node-2")
    assert not running(started)
    recorded = trained.client.load(RUN_ID).stages["train"]
    assert recorded["state"] == StageState.FAILED.value
