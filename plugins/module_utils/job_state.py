# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a job may be, how it came to be that, and the files that say so.

Runs on nodes with their own Python (3.9 or newer) and the standard library only. The
supervisor and the Ansible module share it: it travels inside `supervisor.pyz`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from enum import Enum
from pathlib import Path
from typing import Any


class State(str, Enum):  # noqa: UP042 (StrEnum needs Python 3.11, nodes may have 3.9)
    """The state of a job; `LOST` and `ABSENT` are found by a reader, never written."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def terminal(self) -> bool:
        """Whether the job will never change its state by itself again."""
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.STOPPED, State.LOST})


class Kind(str, Enum):  # noqa: UP042 (as above)
    """Why a job is no longer running."""

    EXITED = "exited"
    SIGNAL = "signal"
    STOPPED = "stopped"
    PEER_FAILED = "peer_failed"
    PEER_SILENT = "peer_silent"
    JOIN_TIMEOUT = "join_timeout"
    START_FAILED = "start_failed"
    ISOLATION = "isolation"
    HUNG = "hung"
    NAN = "nan"
    LOST = "lost"


Reason = dict[str, Any]
"""`{kind, detail, node, at}`; `at` is in seconds since the epoch, by that node's clock.
`cause` is `hung` beside kind `peer_failed` when that is why the other node failed."""


def observed(recorded: str | None, *, supervised: bool) -> State:
    """Map what `state.json` says and whether the lock is held to the job's state.

    Args:
        recorded: The field `state` of `state.json`; None where there is no such file.
        supervised: Whether a process holds the job's lock.
    """
    if recorded is None:
        return State.STARTING if supervised else State.ABSENT
    state = State(recorded)
    if state.terminal or supervised:
        return state
    return State.LOST


def of_kind(kind: Kind) -> State:
    """Map the reason for which a supervisor ended a job to the job's last state."""
    return State.STOPPED if kind is Kind.STOPPED else State.FAILED


def of_exit(code: int) -> tuple[State, Kind | None, str]:
    """Map how the leader ended by itself to (state, kind, sentence).

    Args:
        code: The exit code; negative for the signal that killed the leader.
    """
    if code == 0:
        return State.SUCCEEDED, None, ""
    if code > 0:
        return State.FAILED, Kind.EXITED, f"exited with code {code}"
    return State.FAILED, Kind.SIGNAL, f"was killed by signal {-code} ({signal_name(-code)})"


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


class JobFolder:
    """The names of a job's files on its node; nothing else spells them."""

    def __init__(self, directory: str) -> None:
        self.path = Path(directory)
        self.lock = self.path / "lock"
        self.request = self.path / "request.json"
        self.state = self.path / "state.json"
        self.log = self.path / "log"
        self.log_times = self.path / "log.times"
        self.supervisor_log = self.path / "supervisor.log"
        self.program = self.path / "supervisor.pyz"
        self.stacks = self.path / "stacks"
        self.hang = self.path / "hang.json"
        self.hook = self.path / "hook"
        self.imports = self.path / "imports"

    def attempts(self) -> list[int]:
        """Return the numbers of the earlier attempts that are kept, ascending."""
        try:
            names = [entry.name for entry in self.path.iterdir()]
        except FileNotFoundError:
            return []
        numbers = [name[len("attempt-") :] for name in names if name.startswith("attempt-")]
        return sorted(int(number) for number in numbers if number.isdigit())

    def left(self) -> list[Path]:
        """Return what is there besides the lock and earlier attempts."""
        try:
            entries = list(self.path.iterdir())
        except FileNotFoundError:
            return []
        return [
            entry
            for entry in entries
            if entry.name != "lock" and not entry.name.startswith("attempt-")
        ]

    def archive(self) -> None:
        """Move what an ended attempt left into `attempt-N`; the lock stays.

        The request goes last: a folder that was half moved is still known as a job's.
        """
        entries = sorted(self.left(), key=lambda entry: entry == self.request)
        if not entries:
            return
        target = self.path / f"attempt-{max(self.attempts(), default=0) + 1}"
        target.mkdir(mode=0o700)
        for entry in entries:
            entry.rename(target / entry.name)

    def read_state(self) -> dict[str, Any] | None:
        """Return what `state.json` holds, or None where there is none (yet)."""
        try:
            return read_json(self.state)
        except FileNotFoundError:
            return None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file as a whole (mode 0600): temporary file, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """Take the job's lock; return its descriptor, or None while another holds it.

    The kernel drops the lock when the last process that inherited the descriptor is
    gone, so a held lock is the proof that a supervisor (or its starter) lives.

    Raises:
        FileNotFoundError: The file is not there and `create` is false.
    """
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the job's lock, without taking it for itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
