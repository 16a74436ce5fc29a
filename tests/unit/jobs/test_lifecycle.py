"""A job from its start to its end, through the module, with real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Node

SLEEP = ["sleep", "300"]


def test_start_does_not_wait_and_starting_again_changes_nothing(node: Node) -> None:
    began = time.monotonic()
    first = node.start(*SLEEP)
    assert time.monotonic() - began < 60  # a busy machine is slow, but waiting would take 300
    assert (first["changed"], first["state"]) == (True, "running")
    assert node.alive(first["pid"])
    second = node.start(*SLEEP)
    assert (second["changed"], second["state"]) == (False, "running")
    assert second["pid"] == first["pid"]
    assert node.alive(first["pid"])


def test_a_job_that_succeeded_is_left_alone(node: Node) -> None:
    node.start("echo", "done")
    told = node.end()
    assert (told["state"], told["exit_code"], told["reason"]) == ("succeeded", 0, None)
    assert told["log_tail"] == ["done"]
    again = node.start("echo", "done")
    assert (again["changed"], again["state"], again["attempt"]) == (False, "succeeded", 1)


def test_a_failed_job_starts_anew_and_its_files_are_kept(node: Node) -> None:
    node.start("sh", "-c", "echo first; exit 7")
    told = node.end()
    assert (told["state"], told["exit_code"]) == ("failed", 7)
    assert told["reason"]["kind"] == "exited"
    assert told["reason"]["detail"] == "exited with code 7"
    again = node.start("echo", "second")
    assert (again["changed"], again["attempt"]) == (True, 2)
    assert node.end()["state"] == "succeeded"
    assert node.output() == "second\n"
    assert (node.directory / "attempt-1" / "log").read_text() == "first\n"
    assert json.loads((node.directory / "attempt-1" / "state.json").read_text())["exit_code"] == 7


@pytest.mark.parametrize("command", [SLEEP, ["true"]])
def test_another_command_is_refused(node: Node, command: list[str]) -> None:
    node.start(*command)
    if command == ["true"]:
        node.end()
    told = node.module(**node.job("sleep", "1"))
    assert told["failed"]
    assert "with another command: expected ['sleep', '1'], found" in told["msg"]
    assert node.read()["argv"] == command


def test_a_folder_is_of_one_job(node: Node) -> None:
    node.start("true")
    node.end()
    told = node.module(**node.job("true", stage="gather"))
    assert "holds the job of stage 'train', expected 'gather'" in told["msg"]


def test_a_signal_is_recorded(node: Node) -> None:
    told = node.start(*SLEEP)
    os.kill(told["pid"], signal.SIGSEGV)
    told = node.end()
    assert (told["state"], told["exit_code"], told["signal"]) == ("failed", None, 11)
    assert told["reason"]["kind"] == "signal"
    assert "SIGSEGV" in told["reason"]["detail"]


@pytest.mark.parametrize("program", ["no-such-program-here", "/etc/passwd"])
def test_a_program_that_cannot_be_run_is_named(node: Node, program: str) -> None:
    told = node.module(**node.job(program))
    assert told["failed"]
    assert f"cannot start the job in {node.directory}: found no program" in told["msg"]
    assert repr(program) in told["msg"]
    assert node.end()["reason"]["kind"] == "start_failed"


def test_a_folder_that_cannot_be_made_is_named(node: Node) -> None:
    told = node.module(**node.job("true", cwd="/dev/null/here"))
    assert "cannot make the folder /dev/null/here" in told["msg"]
    assert node.read()["state"] == "absent"


def test_files_and_folders_are_made_first(node: Node) -> None:
    made, folder = node.root / "hostfile" / "hosts", node.root / "work"
    node.start("sh", "-c", 'pwd; cat "$0"', str(made), cwd=str(folder), files={str(made): "n1 ü"})
    assert node.end()["state"] == "succeeded"
    assert node.output() == f"{folder}\nn1 ü"


def test_hostile_arguments_arrive_byte_for_byte(node: Node) -> None:
    hostile = ["a'; echo foo", '"', "a b", "$(id)", "`id`", "x;y|z&", "ünï☃", "\\", "", "*", "a\nb"]
    code = "import sys, json, os; print(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))"
    node.start(sys.executable, "-c", code, *hostile)
    assert node.end()["state"] == "succeeded"
    assert json.loads(node.output()) == [text.encode().hex() for text in hostile]


def test_the_job_gets_its_environment_and_no_other(
    node: Node,
) -> None:
    node.env["ANSIBLE_SOMETHING"] = node.env["PYTHONPATH"] = "leaks"
    env, secret = {"A": "ü $(x)", "RANK": "3"}, {"HF_TOKEN": "hunter2-secret"}
    made = node.root / "made"
    told = node.start(
        "env", env=env, secret_env=secret, path=["/opt/x/bin"], make_directories=[str(made)]
    )
    assert "hunter2-secret" not in json.dumps(told)
    node.end()
    lines = node.output().splitlines()
    assert "A=ü $(x)" in lines
    assert "RANK=3" in lines
    assert "HF_TOKEN=hunter2-secret" in lines
    assert "SWIFTOPS_RUN_ID=r1" in lines
    assert "SWIFTOPS_NODE=n1" in lines
    assert any(line.startswith("SWIFTOPS_JOB=r1/train/n1/") for line in lines)
    assert any(line.startswith("PATH=/opt/x/bin:") for line in lines)
    assert not any(line.startswith("ANSIBLE_") for line in lines)
    assert f"PYTHONPATH={node.directory}/hook" in lines  # and not what Ansible had
    assert made.is_dir()
    kept = [path for path in node.directory.iterdir() if path.is_file() and path.name != "log"]
    assert not [path.name for path in kept if b"hunter2" in path.read_bytes()]


def test_the_nodes_file_stands_below_what_the_machine_and_the_request_say(node: Node) -> None:
    file = node.root.parent / "nccl.env"
    file.write_text("# why\nNCCL_SOCKET_IFNAME='=eth1'\nNCCL_NET=IB\nNCCL_IB_HCA=a\n", "utf-8")
    node.env["NCCL_NET"] = "Socket"
    node.start("env", env={"NCCL_IB_HCA": "asked"}, env_file=str(file))
    assert node.end()["state"] == "succeeded"
    lines = set(node.output().splitlines())
    assert {"NCCL_SOCKET_IFNAME==eth1", "NCCL_NET=Socket", "NCCL_IB_HCA=asked"} <= lines


def test_a_killed_leader_leaves_nothing(node: Node) -> None:
    """Its grandchildren have sessions of their own; no process group reaches them."""
    _, (leader, *children) = node.family()
    assert os.getsid(children[0]) == children[0]
    os.kill(leader, signal.SIGKILL)
    told = node.end()
    assert (told["state"], told["signal"]) == ("failed", 9)
    assert not node.alive(leader, *children)


def test_a_leader_that_succeeds_leaves_nothing(node: Node) -> None:
    node.start("sh", "-c", "setsid sleep 300 & echo $!; exit 0")
    assert node.end()["state"] == "succeeded"
    assert not node.alive(node.pids(1)[0])


def test_stop_ends_the_tree_and_nothing_else(node: Node, innocent: object) -> None:
    _, pids = node.family()
    told = node.module(state="stopped")
    assert (told["changed"], told["state"]) == (True, "stopped")
    assert told["reason"]["kind"] == "stopped"
    assert not node.alive(*pids)
    assert node.alive(innocent.pid)  # type: ignore[attr-defined]
    again = node.module(state="stopped")
    assert (again["changed"], again["state"], again["ended"]) == (False, "stopped", [])


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(node: Node) -> None:
    node.start("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done", stop_grace=0.5)
    (pid,) = node.pids(1)
    began = time.monotonic()
    told = node.module(state="stopped")
    assert told["state"] == "stopped"
    assert time.monotonic() - began < 6
    assert not node.alive(pid)


def test_stopping_what_never_started_changes_nothing(node: Node) -> None:
    told = node.module(state="stopped")
    assert (told["changed"], told["state"], told["ended"]) == (False, "absent", [])
    assert not node.directory.exists()


def test_two_starts_at_the_same_instant_make_one_job(node: Node) -> None:
    executions = [node.execute(**node.job(*SLEEP)) for _ in range(4)]
    told = [execution.answer() for execution in executions]
    assert not [answer["msg"] for answer in told if answer.get("failed")]
    assert len({answer["pid"] for answer in told}) == 1
    assert sorted(answer["changed"] for answer in told) == [False, False, False, True]
    assert not list(node.directory.glob("attempt-*"))


@pytest.mark.slow
def test_a_stop_while_the_job_starts_leaves_nothing(node: Node) -> None:
    """Whenever the stop comes, afterwards the job runs whole or is wholly gone."""
    for delay in (0.02, 0.08, 0.14, 0.2, 0.3):
        starting = node.execute(**node.job(*SLEEP))
        time.sleep(delay)
        told = node.module(state="stopped")
        started = starting.answer()
        assert not started.get("failed"), started
        assert not told.get("failed"), told
        if told["changed"]:
            assert (told["state"], node.read()["state"]) == ("stopped", "stopped")
            assert not node.alive(started["pid"])
        else:  # the stop was there first, and found no job, or the last round's, which had ended
            assert told["state"] in {"absent", "stopped"}
            assert node.read()["state"] == "running"


def test_check_mode_tells_and_touches_nothing(node: Node) -> None:
    told = node.module(**node.job(*SLEEP), check=True)
    assert (told["changed"], told["state"]) == (True, "absent")
    assert not node.directory.exists()
    pid = node.start(*SLEEP)["pid"]
    assert node.module(**node.job(*SLEEP), check=True)["changed"] is False
    assert node.module(state="stopped", check=True)["changed"] is True
    assert node.alive(pid)


def test_finished_returns_on_progress_and_at_the_end(node: Node) -> None:
    path = node.root / "logging.jsonl"
    code = (
        "import time\n"
        "def say(step):\n"
        f"    with open({str(path)!r}, 'a') as f:\n"
        '        f.write(\'{"iteration": "%d/2"}\\n\' % step)\n'
        "say(1); time.sleep(1.5); say(2); time.sleep(1.5)"
    )
    node.root.mkdir()
    node.python(code)
    wanted = {"state": "finished", "wait": 20, "progress_file": str(path)}
    first = node.module(**wanted, since_step=1)
    assert (first["state"], first["progress"]["step"]) == ("running", 2)
    last = node.module(**wanted)
    assert (last["state"], last["progress"]["total"]) == ("succeeded", 2)
    began = time.monotonic()
    assert node.module(**wanted)["state"] == "succeeded"
    assert time.monotonic() - began < 5


def test_a_failed_job_fails_the_task_only_where_asked(node: Node) -> None:
    node.start("sh", "-c", "echo 'out of memory'; exit 1")
    node.end()
    assert not node.module(state="read").get("failed")
    told = node.module(state="read", fail=True, tail=1)
    assert told["failed"]
    assert "exited with code 1" in told["msg"]
    assert str(node.directory / "log") in told["msg"]
    assert told["msg"].endswith("out of memory")
