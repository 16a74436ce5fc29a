# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""End a job on this node and prove that nothing of it is left.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import Any, NamedTuple

from . import process_tree, shared_memory
from .job_state import JobFolder, Kind, State, try_lock, write_json
from .job_view import Answer, JobError, Wanted, answer, look, supervisor_of, survivors
from .process_tree import Identity

DEFAULT_GRACE = 10.0
_MARGIN_SECONDS = 15.0
_STARTER_SECONDS = 15.0
_GPU_SECONDS = 15.0
_GPU_COMMAND = ("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"


class Remains(NamedTuple):
    """What was still there of a job without a supervisor, and is gone now."""

    ended: list[int]
    segments: list[str]


def stop(directory: str, grace: float | None, wanted: Wanted, *, check: bool = False) -> Answer:
    """Stop the job; stopping a job that has ended already changes nothing.

    The supervisor is asked first: it ends its tree. If it is dead, or does not answer in
    time, the processes it recorded and those that carry the job's marker are ended here.

    Args:
        directory: The job's folder.
        grace: Seconds between SIGTERM and SIGKILL where the supervisor is dead; None
            takes what the job was started with.
        wanted: What to tell.
        check: Only tell what would happen.

    Raises:
        JobError: Something could not be ended; the sentence names it.
    """
    folder = JobFolder(directory)
    view = look(folder)
    if view.state is State.ABSENT:
        return {**answer(folder, view, wanted), "ended": []}
    if check:
        told = answer(folder, view, wanted)
        return {**told, "changed": not view.state.terminal or bool(survivors(view.recorded))}
    before = view.recorded
    told_to_stop = survivors(before)
    lock, asked = _take_over(folder)
    try:
        remains = end_remains(folder, grace)
        gone = told_to_stop - survivors(before)
        check_gpus({process.pid for process in gone} | set(remains.ended))
    finally:
        os.close(lock)
    told = answer(folder, look(folder), wanted)
    had_ended = before is not None and State(before["state"]).terminal
    job = folder.read_state() is not None
    ended = sorted({process.pid for process in gone} | set(remains.ended))
    told["ended"] = ended
    told["segments_removed"] = sorted({*told["segments_removed"], *remains.segments})
    # one that was asked may have begun after the look: its job was not in `before`
    told["changed"] = bool(ended or remains.segments or asked) or (job and not had_ended)
    return told


def _take_over(folder: JobFolder) -> tuple[int, bool]:
    """Make the supervisor end its job; return the lock that it held, and whether there was one."""
    began = time.monotonic()
    asked: Identity | None = None
    deadline = began + _STARTER_SECONDS
    while True:
        lock = try_lock(folder.lock)
        if lock is not None:
            return lock, asked is not None
        recorded = folder.read_state()
        supervisor = supervisor_of(recorded) if recorded is not None else None
        if recorded is not None and supervisor is not None and supervisor != asked:
            asked = supervisor
            deadline = time.monotonic() + float(recorded["stop_grace"]) + _MARGIN_SECONDS
            process_tree.send(supervisor, signal.SIGTERM)
        if time.monotonic() > deadline:
            if asked is None:
                raise JobError(
                    f"cannot stop the job in {folder.path}: expected its supervisor to hold "
                    f"{folder.lock}, found the lock held and no supervisor recorded; see who "
                    f"holds it with: fuser -v {folder.lock}"
                )
            if time.monotonic() > deadline + _MARGIN_SECONDS:
                raise JobError(
                    f"cannot stop the job in {folder.path}: its supervisor (pid {asked.pid}) "
                    f"still holds {folder.lock} after SIGKILL; it hangs in the kernel, look at "
                    f"it with: cat /proc/{asked.pid}/stack"
                )
            process_tree.send(asked, signal.SIGKILL)
        time.sleep(process_tree.POLL_SECONDS)


def end_remains(folder: JobFolder, grace: float | None) -> Remains:
    """End what is left of a job whose lock the caller holds; record that it is stopped.

    Raises:
        JobError: A process could not be ended.
    """
    recorded = folder.read_state()
    if recorded is None:
        return Remains([], [])
    protected = _own_line()

    def living() -> set[Identity]:
        known = survivors(recorded) | process_tree.carrying(recorded["marker"])
        below = process_tree.descendants(process.pid for process in known)
        return {process for process in known | below if process.pid not in protected}

    segments = dict(recorded["segments"])
    seconds = float(recorded["stop_grace"]) if grace is None else grace
    done = process_tree.end_tree(living, seconds)
    if done.left:
        pids = ", ".join(str(process.pid) for process in sorted(done.left))
        raise JobError(
            f"cannot end the job in {folder.path}: expected no process after SIGKILL, found "
            f"process {pids} on node {recorded['node']}; it hangs in the kernel, which only "
            f"the device's or the node's restart ends"
        )
    ended = sorted(process.pid for process in done.ended)
    removed = shared_memory.remove_unused(segments)
    if not State(recorded["state"]).terminal:
        _record_stopped(folder, recorded, ended, removed)
    return Remains(ended, removed)


def _record_stopped(
    folder: JobFolder, recorded: dict[str, Any], ended: list[int], removed: list[str]
) -> None:
    pids = ", ".join(map(str, ended)) or "none"
    now = round(time.time(), 3)
    detail = f"the supervisor was dead; ended what it left: process {pids}"
    reason = {
        "kind": Kind.STOPPED.value,
        "detail": detail,
        "node": recorded["node"],
        "at": now,
    }
    recorded.update(
        state=State.STOPPED.value,
        reason=reason,
        ended_at=now,
        descendants=[],
        segments={},
        segments_removed=removed,
    )
    write_json(folder.state, recorded)


def _own_line() -> set[int]:
    """Return this process and its ancestors, which are never ended."""
    found = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = process_tree.read_stat(pid)
        pid = 0 if stat is None else stat.parent
    return found


def check_gpus(pids: set[int]) -> None:
    """Wait until no GPU holds memory of processes that are gone.

    The driver names processes by the machine's own pids, so that nothing can be said
    inside a container's pid namespace; nothing is checked there, nor without
    nvidia-smi.

    Raises:
        JobError: A GPU still holds memory after `_GPU_SECONDS`.
    """
    program = shutil.which(_GPU_COMMAND[0])
    if not pids or program is None or os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:  # noqa: PTH115 (a name, not a path)
        return
    deadline = time.monotonic() + _GPU_SECONDS
    while True:
        held = pids & set(_gpu_pids(program))
        if not held:
            return
        if time.monotonic() > deadline:
            raise JobError(
                f"the job is ended, but {_GPU_SECONDS:g} s later nvidia-smi still shows GPU "
                f"memory of process {', '.join(map(str, sorted(held)))}; look at it with: "
                f"{' '.join(_GPU_COMMAND)}"
            )
        time.sleep(1.0)


def _gpu_pids(program: str) -> list[int]:
    try:
        found = subprocess.run(
            [program, *_GPU_COMMAND[1:]],
            check=False,
            capture_output=True,
            text=True,
            timeout=_GPU_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return []
    fields = (line.split(",")[0].strip() for line in found.stdout.splitlines())
    return [int(field) for field in fields if field.isdigit()]
