# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Tell whether a training still moves, and write down where it stands when it does not.

Upstream's own timeouts are months long, and a process that waits in a collective
operation burns its GPU for ever. Two signs count: the log of training steps does not
grow, and a process is stopped (state T in /proc/PID/stat, as after SIGSTOP).

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import progress
from .process_tree import Identity, read_stat

STARTUP_SECONDS = 600.0
STOPPED_SECONDS = 30.0
LOOK_SECONDS = 2.0
_DUMP_SECONDS = 10.0
_MAX_DUMPS = 32
_PAUSES, _LEAST_PAUSES = 32, 5
_STOPPED, _UNINTERRUPTIBLE = "T", "D"


class Rule(NamedTuple):
    """How long a step may take once the usual time between two steps is known.

    Attributes:
        steps: So many times the usual time; 0 where the timeout alone counts.
        at_least: But never less than so many seconds, since saving a checkpoint and evaluating
            log no step.
        startup: What the first step may take on top of the timeout.
    """

    steps: float = 0
    at_least: float = 600
    startup: float = STARTUP_SECONDS

    @classmethod
    def of(cls, watch: Mapping[str, Any]) -> Rule:
        """Read the settings `hang_steps`, `hang_at_least` and `hang_startup`."""
        given = {name: watch.get(f"hang_{name}") for name in cls._fields}
        return cls(**{name: float(value) for name, value in given.items() if value is not None})


class Watch:
    """Looks at a job now and then.

    Time in which nobody looked (the supervisor itself was stopped, or the machine was)
    does not count.

    Args:
        timeout: Seconds without progress that are a hang; 0 for never.
        progress_file: Where the job logs its steps, or None where it logs none on this
            node; lines of an earlier attempt are no progress.
        rule: How long a step may take, of the time that steps take.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        timeout: float,
        progress_file: str | None,
        rule: Rule | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._stopped_limit = min(STOPPED_SECONDS, timeout / 2)
        self._file = Path(progress_file) if progress_file else None
        self._rule, self._clock = rule or Rule(), clock
        self._pauses: deque[float] = deque(maxlen=_PAUSES)
        self._longest = 0.0
        self._looked = self._moved = clock()
        self._signature = self._sign()
        self._begun = False
        self._stopped: dict[Identity, float] = {}

    def verdict(self, living: Callable[[], Iterable[Identity]]) -> str | None:
        """Return why the job counts as hung, or None.

        Args:
            living: Returns the job's processes; called only when it is time to look.
        """
        now = self._clock()
        if self._timeout <= 0 or now - self._looked < LOOK_SECONDS:
            return None
        unseen = now - self._looked - LOOK_SECONDS
        if unseen > LOOK_SECONDS:
            self._moved += unseen
            self._stopped = {process: since + unseen for process, since in self._stopped.items()}
        self._looked = now
        processes = list(living())
        return self._stopped_too_long(processes, now) or self._silent_too_long(processes, now)

    def _stopped_too_long(self, processes: list[Identity], now: float) -> str | None:
        stopped = [process for process in processes if _state(process) == _STOPPED]
        self._stopped = {process: self._stopped.get(process, now) for process in stopped}
        long = [
            process for process in stopped if now - self._stopped[process] > self._stopped_limit
        ]
        if not long:
            return None
        return (
            f"hung: process {_names(long)} has been stopped for more than "
            f"{self._stopped_limit:g} s (state T, as after SIGSTOP)"
        )

    def _silent_too_long(self, processes: list[Identity], now: float) -> str | None:
        if self._file is None:
            return None
        signature = self._sign()
        if signature != self._signature:
            if self._begun:
                self._pauses.append(now - self._moved)
                self._longest = max(self._longest, now - self._moved)
            self._signature, self._moved, self._begun = signature, now, True
            return None
        limit, usual = self._limit()
        if now - self._moved <= limit:
            return None
        record = progress.latest(str(self._file)) if self._begun else None
        last = f"step {record['step']} of {record['total']}" if record else "none yet"
        found = f"hung: no training step for more than {limit:g} s{usual} (the last: {last})"
        for letter, word in ((_STOPPED, "stopped"), (_UNINTERRUPTIBLE, "in uninterruptible sleep")):
            those = [process for process in processes if _state(process) == letter]
            if those:
                found += f"; process {_names(those)} is {word} (state {letter})"
        return found

    def _limit(self) -> tuple[float, str]:
        """How long the log may stand still, and the clause that says from what that follows."""
        if not self._begun:
            return self._timeout + self._rule.startup, ""
        if self._rule.steps <= 0 or len(self._pauses) < _LEAST_PAUSES:
            return self._timeout, ""
        usual = statistics.median(self._pauses)
        # What took long once, such as a save, may take as long again.
        learnt = max(self._rule.at_least, self._rule.steps * usual, 2 * self._longest)
        if learnt >= self._timeout:
            return self._timeout, ""
        return round(learnt, 1), f", where {usual:.1f} s are usual"

    def _sign(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns


def _state(process: Identity) -> str:
    found = read_stat(process.pid)
    return found.state if found is not None and found.identity == process else ""


def _names(processes: Iterable[Identity]) -> str:
    words = []
    for process in sorted(processes):
        found = read_stat(process.pid)
        words.append(
            f"{process.pid} ({found.name}{_rank(process.pid)})" if found else str(process.pid)
        )
    return ", ".join(words)


def _rank(pid: int) -> str:
    """Return the clause that names the process's global rank, if torchrun gave it one."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    ranks = [
        word[5:].decode() for word in words if word.startswith(b"RANK=") and word[5:].isdigit()
    ]
    return f", rank {ranks[0]}" if ranks else ""


def record_stacks(processes: Iterable[Identity], path: str, target: Path) -> str:
    """Write the stacks of the Python processes with py-spy; return a clause that says where.

    Args:
        processes: The job's processes.
        path: Where to look for py-spy, as in PATH.
        target: The file to write.
    """
    program = shutil.which("py-spy", path=path)
    if program is None:
        return "no stacks, since there is no py-spy on the PATH of the job"
    dumps = []
    for process in sorted(processes)[:_MAX_DUMPS]:
        found = read_stat(process.pid)
        if found is None or not _runs_python(process.pid):
            continue
        dumps.append(
            f"# process {process.pid} ({found.name}{_rank(process.pid)}), state {found.state}\n"
        )
        # Without pausing it: a process that is stopped already cannot be paused.
        argv = [program, "dump", "--nonblocking", "--pid", str(process.pid)]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=_DUMP_SECONDS, check=False
            )
            dumps.append(done.stdout + done.stderr)
        except (OSError, subprocess.TimeoutExpired) as error:
            dumps.append(f"py-spy gave none: {error}\n")
    try:
        target.write_text("\n".join(dumps), encoding="utf-8")
    except OSError as error:
        return f"no stacks, since {target} cannot be written: {error}"
    return f"stacks are in {target}"


def _runs_python(pid: int) -> bool:
    try:
        return "python" in Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return False
