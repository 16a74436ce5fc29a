# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Processes told apart by pid and start time, found and ended as a tree.

Linux only, standard library only, Python 3.9 or newer. A pid alone is never trusted:
the kernel gives it to another process later. Pid plus start time names one process for
as long as the machine is up.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

MARKER = "SWIFTOPS_JOB"
POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_DEAD = frozenset("ZXx")
_PPID, _THREADS, _START = 1, 17, 19  # positions after the command name in /proc/PID/stat


class Identity(NamedTuple):
    """One process for ever: its pid and its start time (clock ticks since boot)."""

    pid: int
    start: int


class Stat(NamedTuple):
    """The part of /proc/PID/stat that matters here."""

    identity: Identity
    name: str
    state: str
    parent: int
    threads: int

    @property
    def dead(self) -> bool:
        """Whether only the table entry is left.

        A zombie with more than one thread is a process whose main thread has ended
        while others run on.
        """
        return self.state in _DEAD and self.threads <= 1


def parse_stat(text: str) -> Stat:
    """Read one line of /proc/PID/stat; the name may hold spaces and parentheses."""
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    return Stat(
        identity=Identity(int(text[:opening]), int(fields[_START])),
        name=text[opening + 1 : closing],
        state=fields[0],
        parent=int(fields[_PPID]),
        threads=int(fields[_THREADS]),
    )


def read_stat(pid: int) -> Stat | None:
    """Return a process's line, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return parse_stat(text)


def identity_of(pid: int) -> Identity:
    """Return the identity of a process that is known to be there.

    Raises:
        ProcessLookupError: It is not.
    """
    found = read_stat(pid)
    if found is None:
        raise ProcessLookupError(f"no process has pid {pid}")
    return found.identity


def is_alive(process: Identity) -> bool:
    """Tell whether that very process still runs (a zombie does not)."""
    found = read_stat(process.pid)
    return found is not None and found.identity == process and not found.dead


def snapshot() -> dict[int, Stat]:
    """Return every process of this pid namespace."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (half the cost of Path objects, twice a second)
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                found[stat.identity.pid] = stat
    return found


def descendants(roots: Iterable[int], processes: dict[int, Stat] | None = None) -> set[Identity]:
    """Return the live processes below the roots, without the roots themselves."""
    processes = snapshot() if processes is None else processes
    children: dict[int, list[Stat]] = {}
    for stat in processes.values():
        children.setdefault(stat.parent, []).append(stat)
    found: set[Identity] = set()
    queue = list(roots)
    seen = set(queue)
    while queue:
        for stat in children.get(queue.pop(), []):
            pid = stat.identity.pid
            if pid in seen:
                continue
            seen.add(pid)
            queue.append(pid)
            if not stat.dead:
                found.add(stat.identity)
    return found


def carrying(marker: str) -> set[Identity]:
    """Return the live processes whose environment carries exactly this job's marker.

    Processes of other users cannot be read and are none of ours.
    """
    wanted = f"{MARKER}={marker}".encode()
    found = set()
    for stat in snapshot().values():
        try:
            environment = Path(f"/proc/{stat.identity.pid}/environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0") and is_alive(stat.identity):
            found.add(stat.identity)
    return found


def send(process: Identity, number: int) -> bool:
    """Signal that very process; return False when it is gone or may not be signalled.

    A pidfd is opened first and the start time compared afterwards, so that a pid which
    is given away in between is not hit.
    """
    try:
        descriptor = _pidfd(process.pid)
        try:
            if not is_alive(process):
                return False
            if descriptor is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            if descriptor is not None:
                os.close(descriptor)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _pidfd(pid: int) -> int | None:
    """Return a pidfd, or None where the kernel (before 5.3) or this Python has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


class Ended(NamedTuple):
    """What ending a tree did."""

    ended: set[Identity]
    left: set[Identity]


def end_tree(
    find: Callable[[], set[Identity]],
    grace: float,
    kill_timeout: float = 60.0,
    between: Callable[[], None] = lambda: None,
) -> Ended:
    """End all processes that `find` returns, again and again until it finds none.

    Args:
        find: Returns the live processes that have to go; newly born ones included.
        grace: Seconds between SIGTERM and SIGKILL.
        kill_timeout: Seconds after the first SIGKILL at which to give up; a process in
            uninterruptible sleep cannot be ended by anybody.
        between: Called between two looks, to reap children.

    Returns:
        The processes that are gone and those that could not be ended.
    """
    told: set[Identity] = set()
    deadline = time.monotonic() + grace
    between()
    living = find()
    while living:
        now = time.monotonic()
        if now > deadline + kill_timeout:
            break
        if now >= deadline:
            for process in living:
                send(process, signal.SIGKILL)
        else:
            for process in living - told:
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)  # a stopped process hears nothing else
        told |= living
        time.sleep(POLL_SECONDS)
        between()
        living = find()
    return Ended(told - living, living)


def boot_id() -> str:
    """Return the id of this boot; start times of different boots say nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Adopt every orphan below this process, so that none leaves the tree."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies; call it last before exec.

    Raises:
        ProcessLookupError: The parent is already gone.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError("the supervisor died while it started the job")
