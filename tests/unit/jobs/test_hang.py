"""A job that does not move any more is noticed, named and stopped on every node."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_utils import hang

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Node

SLEEP = ("sleep", "300")
ONE_STEP = """
import json, sys, time
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({"iteration": "3/9", "loss": 1.0}) + "\\n")
time.sleep(300)
"""


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looks(watch: hang.Watch, clock: Clock, seconds: float) -> str | None:
    """Look every two seconds, for so long."""
    end = clock.now + seconds
    found = None
    while clock.now < end and found is None:
        clock.now += hang.LOOK_SECONDS
        found = watch.verdict(list)
    return found


def step(path: Path, number: int) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"iteration": f"{number}/9"}) + "\n")


def test_silence_after_a_step_is_a_hang_and_start_up_has_time(tmp_path: Path) -> None:
    path, clock = tmp_path / "logging.jsonl", Clock()
    watch = hang.Watch(60, str(path), clock=clock)
    assert looks(watch, clock, 600) is None
    step(path, 1)
    assert looks(watch, clock, 58) is None
    step(path, 2)
    assert looks(watch, clock, 58) is None
    found = looks(watch, clock, 10)
    assert found == "hung: no training step for more than 60 s (the last: step 2 of 9)"


def test_a_start_that_never_comes_to_a_step_is_a_hang(tmp_path: Path) -> None:
    path, clock = tmp_path / "logging.jsonl", Clock()
    step(path, 7)  # an earlier attempt's
    watch = hang.Watch(60, str(path), clock=clock)
    assert looks(watch, clock, 656) is None
    assert looks(watch, clock, 10) == (
        "hung: no training step for more than 660 s (the last: none yet)"
    )


def test_time_in_which_nobody_looked_does_not_count(tmp_path: Path) -> None:
    path, clock = tmp_path / "logging.jsonl", Clock()
    watch = hang.Watch(60, str(path), clock=clock)
    step(path, 1)
    assert looks(watch, clock, 10) is None
    clock.now += 10_000
    assert looks(watch, clock, 40) is None
    assert looks(watch, clock, 30) is not None


def test_no_timeout_is_no_watch(tmp_path: Path) -> None:
    clock = Clock()
    watch = hang.Watch(0, str(tmp_path / "logging.jsonl"), clock=clock)
    assert looks(watch, clock, 100_000) is None


def test_a_stopped_process_is_named_and_ended(node: Node) -> None:
    _, pids = node.family(hang_timeout=2)
    os.kill(pids[1], signal.SIGSTOP)
    told = node.end()
    assert (told["state"], told["reason"]["kind"]) == ("failed", "hung")
    detail = told["reason"]["detail"]
    assert detail.startswith(f"hung: process {pids[1]} (sleep) has been stopped for more than 1 s")
    assert not node.alive(*pids)


def test_the_rank_of_a_stopped_process_is_named(node: Node) -> None:
    _, pids = node.family(hang_timeout=2, env={"RANK": "3"})
    os.kill(pids[1], signal.SIGSTOP)
    assert f"process {pids[1]} (sleep, rank 3) has been" in node.end()["reason"]["detail"]


@pytest.mark.slow
def test_a_job_without_progress_is_ended_and_its_stacks_are_kept(
    node: Node, tmp_path: Path
) -> None:
    spy = tmp_path / "bin" / "py-spy"
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\necho "told: $*"\n')
    spy.chmod(0o755)
    path = str(tmp_path / "logging.jsonl")
    code = ("python3", "-c", ONE_STEP, path)
    told = node.start(*code, progress_file=path, hang_timeout=3, path=[str(spy.parent)])
    end = node.end()
    assert (end["state"], end["reason"]["kind"]) == ("failed", "hung")
    stacks = node.directory / "stacks"
    assert end["reason"]["detail"] == (
        f"hung: no training step for more than 3 s (the last: step 3 of 9); stacks are in {stacks}"
    )
    assert f"told: dump --nonblocking --pid {told['pid']}" in stacks.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_all_nodes_stop_and_know_that_it_was_a_hang(
    make_node: Callable[[str], Node], port: int, victim: int
) -> None:
    nodes = [make_node(f"n{rank + 1}") for rank in range(3)]
    peers = [{"node": node.name, "host": "127.0.0.1", "port": port} for node in nodes]
    params: dict[str, Any] = {"peers": peers, "token": "t", "hang_timeout": 2, "stop_grace": 1}
    told = [node.start(*SLEEP, **params) for node in nodes]
    nodes[0].eventually(lambda: len(nodes[0].read()["joined"]) == 2)
    os.kill(told[victim]["pid"], signal.SIGSTOP)
    ends = [node.end() for node in nodes]
    assert ends.pop(victim)["reason"]["kind"] == "hung"
    for end in ends:
        reason = end["reason"]
        assert (reason["kind"], reason["cause"]) == ("peer_failed", "hung")
        assert reason["node"] == f"n{victim + 1}"
        assert f"process {told[victim]['pid']} (sleep) has been stopped" in reason["detail"]
    assert not nodes[0].alive(*(answer["pid"] for answer in told))


def test_what_the_machine_sets_for_its_interconnect_reaches_the_job(node: Node) -> None:
    node.env = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "OTHER": "x"}
    node.start("env", env={"NCCL_SOCKET_IFNAME": "lo"})
    node.end()
    lines = node.output().splitlines()
    assert {
        "NCCL_NVLS_ENABLE=0",
        "TORCH_SYMM_MEM_DISABLE_MULTICAST=1",
        "NCCL_SOCKET_IFNAME=lo",
    } <= set(lines)
    assert "OTHER=x" not in lines


def test_many_usual_pauses_are_a_hang_but_a_save_has_time(tmp_path: Path) -> None:
    path, clock = tmp_path / "logging.jsonl", Clock()
    watch = hang.Watch(1800, str(path), hang.Rule(20, 100), clock)
    for number in range(1, 9):
        step(path, number)
        assert looks(watch, clock, 10) is None
    assert looks(watch, clock, 80) is None  # a save
    step(path, 9)
    assert looks(watch, clock, 190) is None
    found = looks(watch, clock, 40)
    assert found == (
        "hung: no training step for more than 200 s, where 10.0 s are usual (the last: step 9 of 9)"
    )
