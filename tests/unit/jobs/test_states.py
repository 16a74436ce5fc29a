"""What is recorded maps to one state, and bad requests are refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fleet_utils import job_control, job_log, job_state, process_tree
from fleet_utils.job_state import Kind, State


@pytest.mark.parametrize(
    ("recorded", "supervised", "wanted"),
    [
        (None, False, State.ABSENT),
        (None, True, State.STARTING),
        ("starting", True, State.STARTING),
        ("starting", False, State.LOST),
        ("running", True, State.RUNNING),
        ("running", False, State.LOST),
        ("succeeded", True, State.SUCCEEDED),
        ("succeeded", False, State.SUCCEEDED),
        ("failed", False, State.FAILED),
        ("stopped", False, State.STOPPED),
    ],
)
def test_observed(recorded: str | None, supervised: bool, wanted: State) -> None:
    assert job_state.observed(recorded, supervised=supervised) is wanted


def test_how_a_leader_ends() -> None:
    assert job_state.of_exit(0) == (State.SUCCEEDED, None, "")
    assert job_state.of_exit(3) == (State.FAILED, Kind.EXITED, "exited with code 3")
    state, kind, detail = job_state.of_exit(-9)
    assert (state, kind) == (State.FAILED, Kind.SIGNAL)
    assert detail == "was killed by signal 9 (SIGKILL)"
    assert job_state.of_exit(-64)[2] == "was killed by signal 64 (SIGRTMAX)"


def test_every_kind_ends_in_a_terminal_state() -> None:
    assert all(job_state.of_kind(kind).terminal for kind in Kind)
    assert job_state.of_kind(Kind.STOPPED) is State.STOPPED
    assert {state for state in State if not state.terminal} == {
        State.ABSENT,
        State.STARTING,
        State.RUNNING,
    }


def test_a_process_name_may_look_like_anything() -> None:
    fields = ["S", "1", *["0"] * 15, "1", "0", "4711", "0"]
    stat = process_tree.parse_stat("42 (a) R 7 (b c)) " + " ".join(fields))
    assert stat.name == "a) R 7 (b c)"
    assert stat.identity == process_tree.Identity(42, 4711)
    assert (stat.state, stat.parent) == ("S", 1)


def test_the_tail_shows_what_a_progress_bar_showed_last(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n10%\r50%\r100%\nlast \xff\n")
    assert job_log.tail(log, 2) == ["100%", "last \N{REPLACEMENT CHARACTER}"]
    assert job_log.tail(log, 0) == []
    assert job_log.tail(tmp_path / "none", 5) == []


GOOD: dict[str, Any] = {
    "directory": "/nodes/n1/runs/r1/jobs/train",
    "argv": ["true"],
    "run_id": "r1",
    "stage": "train",
    "node": "n1",
    "env": {},
    "secret_env": {},
    "again": False,
    "path": [],
    "cwd": None,
    "make_directories": [],
    "files": {},
    "hide": [],
    "isolation": "auto",
    "peers": [],
    "token": None,
    "stop_grace": 10,
    "heartbeat_timeout": 8,
    "join_timeout": 120,
}
PEERS = [{"node": name, "host": "127.0.0.1", "port": 22000} for name in ("n1", "n2")]


def test_a_good_request_is_taken() -> None:
    request = job_control.request_of({**GOOD, "peers": PEERS, "token": "t"})
    assert request.argv == ["true"]
    assert request.values["cwd"] == GOOD["directory"]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"directory": "runs/r1"}, "directory: expected an absolute path, found 'runs/r1'"),
        ({"argv": []}, "argv: expected the command"),
        ({"run_id": "a b"}, "run_id: expected a name without blanks and slashes, found 'a b'"),
        ({"stage": "a/b"}, "stage: expected a name"),
        ({"node": ""}, "node: expected a name"),
        ({"files": {"hostfile": "n1"}}, "files: expected an absolute path, found 'hostfile'"),
        ({"hide": ["nodes"]}, "hide: expected an absolute path"),
        ({"hide": ["/nodes"]}, "would hide the job's own"),
        ({"hide": ["/data"], "cwd": "/data/x"}, "would hide the job's own /data/x"),
        ({"peers": PEERS[1:], "token": "t"}, "expected node n1 among them, found n2"),
        ({"peers": [*PEERS, PEERS[1]], "token": "t"}, "expected every node once"),
        ({"peers": PEERS}, "token: expected the secret"),
    ],
)
def test_a_bad_request_is_refused(bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises(job_control.JobError, match=sentence):
        job_control.request_of({**GOOD, **bad})


def test_earlier_attempts_are_numbered(tmp_path: Path) -> None:
    folder = job_state.JobFolder(str(tmp_path))
    for text in ("one", "two"):
        (tmp_path / "lock").touch()
        folder.log.write_text(text)
        folder.archive()
    folder.archive()
    assert folder.attempts() == [1, 2]
    assert (tmp_path / "attempt-2" / "log").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attempt-1", "attempt-2", "lock"]
