# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Look at a job on this node without touching it.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from . import job_log, process_tree, progress
from .job_state import JobFolder, Kind, State, is_locked, observed
from .process_tree import Identity

_POLL_SECONDS = 0.2
_LOCK_SECONDS = 1.0
_LOOKS = 3
_FIELDS = (
    "exit_code",
    "signal",
    "reason",
    "started_at",
    "ended_at",
    "argv",
    "isolation",
    "joined",
    "segments_removed",
    "notes",
)

Answer = dict[str, Any]


class JobError(Exception):
    """A request about a job cannot be met; the sentence says why and what to do."""


class View(NamedTuple):
    """A job as found: its state, and what its supervisor recorded last."""

    state: State
    recorded: dict[str, Any] | None


class Wanted(NamedTuple):
    """What to tell beside the state.

    Attributes:
        tail: How many last lines of the log.
        progress_file: The path of a logging.jsonl, or None.
        log_from: Bytes of the log that are known already, to get whole lines after them;
            None for no lines.
        log_since: Of the log only what came after, in seconds since the epoch; None for all of it.
    """

    tail: int = 0
    progress_file: str | None = None
    log_from: int | None = None
    log_since: float | None = None


def look(folder: JobFolder) -> View:
    """Return the job's state.

    The lock is probed before the file is read, so that a supervisor that ends in
    between is not taken for lost; a job that seems lost is looked at again, since it
    may just have been started anew.
    """
    view = View(State.ABSENT, None)
    for _ in range(_LOOKS):
        locked = is_locked(folder.lock)
        recorded = folder.read_state()
        if recorded is None:
            view = View(observed(None, supervised=locked), None)
        else:
            supervised = locked and supervisor_of(recorded) is not None
            view = View(observed(recorded["state"], supervised=supervised), recorded)
        if view.state is not State.LOST:
            break
        time.sleep(process_tree.POLL_SECONDS)
    return view


def supervisor_of(recorded: dict[str, Any]) -> Identity | None:
    """Return the recorded supervisor if that very process still lives."""
    supervisor = Identity(*recorded["supervisor"])
    same_boot = recorded["boot_id"] == process_tree.boot_id()
    return supervisor if same_boot and process_tree.is_alive(supervisor) else None


def survivors(recorded: dict[str, Any] | None) -> set[Identity]:
    """Return the recorded processes that still live (pid and start time fit)."""
    if recorded is None or recorded["boot_id"] != process_tree.boot_id():
        return set()
    known = {Identity(*item) for item in recorded["descendants"]}
    if recorded["leader"] is not None:
        known.add(Identity(*recorded["leader"]))
    return {process for process in known if process_tree.is_alive(process)}


def answer(folder: JobFolder, view: View, wanted: Wanted) -> Answer:
    """Return what the module tells of a job."""
    recorded, start = view.recorded, 0
    if wanted.log_since is not None:
        start = job_log.offset_at(folder.log, folder.log_times, wanted.log_since)
    told: Answer = {
        "changed": False,
        "state": view.state.value,
        "directory": str(folder.path),
        "log": str(folder.log),
        "log_tail": job_log.tail(folder.log, wanted.tail, start),
        "progress": None,
        "pid": None,
        "supervisor_pid": None,
        "descendants": 0,
        "survivors": [],
        "attempt": len(folder.attempts()) + (1 if recorded else 0),
        "usage": None,
        "alerts": [],
    }
    told.update(dict.fromkeys(_FIELDS))
    told.update(joined=[], segments_removed=[], notes=[])
    if wanted.log_from is not None:
        ended = view.state.terminal or view.state is State.ABSENT
        known = max(wanted.log_from, start)
        lines, told["log_next"] = job_log.after(folder.log, known, ended=ended)
        told["log_lines"] = lines
        told["log_more"] = bool(lines) and job_log.more(folder.log, known)
    if wanted.progress_file is not None:
        told["progress"] = progress.latest(wanted.progress_file)
    if recorded is None:
        return told
    told.update({name: recorded[name] for name in _FIELDS})
    told["usage"] = None if view.state.terminal else recorded.get("usage")
    told["alerts"] = recorded.get("alerts", [])
    told["supervisor_pid"] = recorded["supervisor"][0]
    told["pid"] = None if recorded["leader"] is None else recorded["leader"][0]
    told["descendants"] = len(recorded["descendants"])
    if view.state is State.LOST:
        living = sorted(process.pid for process in survivors(recorded))
        told["survivors"] = living
        told["reason"] = _lost(folder, recorded, living)
    return told


def _lost(folder: JobFolder, recorded: dict[str, Any], living: list[int]) -> dict[str, Any]:
    supervisor = recorded["supervisor"][0]
    rebooted = recorded["boot_id"] != process_tree.boot_id()
    how = "the node was restarted" if rebooted else "it was killed"
    rest = f"process {', '.join(map(str, living))} of the job still runs" if living else ""
    detail = (
        f"the supervisor (pid {supervisor}) is gone without a last word: {how}; "
        f"{rest or 'none of the recorded processes lives'}; see {folder.supervisor_log}"
        f"{', and end the rest with state: stopped' if living else ''}"
    )
    return {"kind": Kind.LOST.value, "detail": detail, "node": recorded["node"], "at": None}


def read(directory: str, wanted: Wanted) -> Answer:
    """Return the job's state now."""
    folder = JobFolder(directory)
    return answer(folder, look(folder), wanted)


def wait(directory: str, seconds: float, since_step: int | None, wanted: Wanted) -> Answer:
    """Wait until the job has ended or made progress, or the time is over.

    Args:
        directory: The job's folder.
        seconds: How long at most.
        since_step: Return as soon as the progress file has a later step than this; None
            waits for the end alone.
        wanted: What to tell.
    """
    folder = JobFolder(directory)
    deadline = time.monotonic() + seconds
    watched = [folder.state]
    if since_step is not None and wanted.progress_file is not None:
        watched.append(Path(wanted.progress_file))
    seen: list[Any] | None = None
    probed = 0.0
    while True:
        now = time.monotonic()
        signature = [_signature(path) for path in watched]
        if signature != seen or now - probed >= _LOCK_SECONDS:
            changed_progress = seen is None or signature[1:] != seen[1:]
            seen, probed = signature, now
            state = look(folder).state
            if state.terminal or state is State.ABSENT:
                break
            if changed_progress and _advanced(wanted.progress_file, since_step):
                break
        if now >= deadline:
            break
        time.sleep(min(_POLL_SECONDS, max(deadline - now, 0.0)))
    return read(directory, wanted)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _advanced(progress_file: str | None, since_step: int | None) -> bool:
    if progress_file is None or since_step is None:
        return False
    record = progress.latest(progress_file)
    return record is not None and record["step"] > since_step
