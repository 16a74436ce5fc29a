"""What is done for a job whose supervisor is dead, and to whom it is never done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_utils import job_state, process_tree

if TYPE_CHECKING:
    from conftest import Node

SHM = Path("/dev/shm")  # noqa: S108 (what is tested)

# Makes a segment, maps it, has a child in a session of its own that maps it too.
SEGMENT = """
import mmap, os, sys, time
with open(sys.argv[1], "w+b") as file:
    file.truncate(4096)
    segment = mmap.mmap(file.fileno(), 4096)
if os.fork() == 0:
    os.setsid()
print(os.getpid(), flush=True)
time.sleep(300)
"""


def test_a_job_without_supervisor_is_lost_and_stop_cleans_up(node: Node) -> None:
    told, (leader, *children) = node.family()
    os.kill(told["supervisor_pid"], signal.SIGKILL)
    lost = node.end()
    assert (lost["state"], lost["reason"]["kind"]) == ("lost", "lost")
    assert lost["survivors"] == sorted(children)
    assert f"(pid {told['supervisor_pid']}) is gone without a last word" in lost["reason"]["detail"]
    assert not node.alive(leader)
    stopped = node.module(state="stopped", grace=1)
    assert (stopped["changed"], stopped["state"]) == (True, "stopped")
    assert set(children) <= set(stopped["ended"])
    assert not node.alive(*children)
    assert node.module(state="stopped")["changed"] is False


def test_a_process_that_was_never_recorded_is_found_by_its_marker(node: Node) -> None:
    told, (_, *children) = node.family()
    os.kill(told["supervisor_pid"], signal.SIGKILL)
    recorded = node.recorded()
    recorded["descendants"] = []
    (node.directory / "state.json").write_text(json.dumps(recorded))
    assert set(children) <= set(node.module(state="stopped", grace=1)["ended"])
    assert not node.alive(*children)


def test_a_lost_job_starts_anew_after_its_rest_is_ended(node: Node) -> None:
    told, (_, *children) = node.family(stop_grace=0.5)
    os.kill(told["supervisor_pid"], signal.SIGKILL)
    again, _ = node.family(stop_grace=0.5)
    assert (again["changed"], again["attempt"], again["state"]) == (True, 2, "running")
    assert not node.alive(*children)


def test_a_pid_that_was_given_away_is_never_signalled(
    node: Node, innocent: subprocess.Popen[bytes]
) -> None:
    node.start("true")
    node.end()
    stranger = [innocent.pid, process_tree.identity_of(innocent.pid).start - 1]
    recorded = node.recorded()
    recorded.update(state="running", supervisor=stranger, leader=stranger, descendants=[stranger])
    (node.directory / "state.json").write_text(json.dumps(recorded))
    lost = node.read()
    assert (lost["state"], lost["survivors"]) == ("lost", [])
    stopped = node.module(state="stopped", grace=0)
    assert (stopped["state"], stopped["ended"]) == ("stopped", [])
    assert node.alive(innocent.pid)
    assert process_tree.send(process_tree.Identity(*stranger), signal.SIGKILL) is False
    assert node.alive(innocent.pid)


def test_after_a_restart_of_the_machine_no_pid_means_anything(
    node: Node, innocent: subprocess.Popen[bytes]
) -> None:
    node.start("true")
    node.end()
    same = list(process_tree.identity_of(innocent.pid))
    recorded = node.recorded()
    recorded.update(state="running", leader=same, descendants=[same], boot_id="another")
    (node.directory / "state.json").write_text(json.dumps(recorded))
    assert "the node was restarted" in node.read()["reason"]["detail"]
    assert node.module(state="stopped", grace=0)["ended"] == []
    assert node.alive(innocent.pid)


def test_the_lock_is_the_proof_of_life(node: Node) -> None:
    node.start("sleep", "300")
    folder = job_state.JobFolder(str(node.directory))
    assert job_state.is_locked(folder.lock)
    assert job_state.try_lock(folder.lock) is None
    node.module(state="stopped")
    assert not job_state.is_locked(folder.lock)


@pytest.fixture
def segment() -> Iterator[Path]:
    path = SHM / f"swiftops-test-{uuid.uuid4().hex}"
    yield path
    path.unlink(missing_ok=True)


def start_with_segment(node: Node, segment: Path) -> dict[str, int]:
    told = node.start(sys.executable, "-c", SEGMENT, str(segment))
    node.pids(2)
    node.eventually(lambda: str(segment) in node.recorded()["segments"])
    return told


def test_a_segment_of_a_killed_tree_is_removed(node: Node, segment: Path) -> None:
    told = start_with_segment(node, segment)
    os.kill(told["pid"], signal.SIGKILL)
    end = node.end()
    assert end["segments_removed"] == [str(segment)]
    assert not segment.exists()


def test_a_segment_of_a_lost_tree_is_removed_by_stop(node: Node, segment: Path) -> None:
    told = start_with_segment(node, segment)
    os.kill(told["supervisor_pid"], signal.SIGKILL)
    assert node.end()["state"] == "lost"
    assert segment.exists()
    assert node.module(state="stopped", grace=1)["segments_removed"] == [str(segment)]
    assert not segment.exists()


def test_a_segment_that_another_process_uses_stays(node: Node, segment: Path) -> None:
    start_with_segment(node, segment)
    with segment.open("rb"):
        assert node.module(state="stopped")["segments_removed"] == []
    assert segment.exists()


def test_a_segment_that_was_there_before_stays(node: Node, segment: Path) -> None:
    segment.write_bytes(b"x" * 4096)
    code = "import mmap, sys, time; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0)"
    node.start(sys.executable, "-c", code + "; print(1); time.sleep(1)", str(segment))
    assert node.end()["segments_removed"] == []
    assert segment.exists()
