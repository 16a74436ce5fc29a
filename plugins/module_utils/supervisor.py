# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""The supervisor of one job on one node: starts it, watches it, ends it, says why.

The Ansible module writes this and the files it imports into `supervisor.pyz` and starts
it detached, with the job's lock inherited: `python3 -I supervisor.pyz DIRECTORY LOCK_FD`.
It outlives Ansible, reads `request.json` once, and from then on only writes:
`state.json` (always whole), `log` (the job's output) and `supervisor.log` (its own).

It is a child subreaper: whatever the job starts, in whatever session, stays below it.
SIGTERM and SIGINT ask it to stop the job. Linux only, standard library only, Python 3.9
or newer.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from . import (
    alerts,
    hang,
    hang_report,
    isolation,
    job_log,
    launch,
    process_tree,
    shared_memory,
    usage,
)
from .heartbeat import Fate, Peer, Settings
from .job_state import JobFolder, Kind, Reason, State, of_exit, of_kind, read_json, write_json

SAMPLE_SECONDS = 0.5
SEGMENT_SECONDS = 2.0
FAREWELL_SECONDS = 3.0
_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_WAITED = _STOP | {signal.SIGCHLD, signal.SIGUSR1}


class Supervisor:
    """Runs one job from its request to its last state.

    Args:
        folder: The job's files.
        request: What `job_control.start` asked for.
    """

    def __init__(self, folder: JobFolder, request: dict[str, Any]) -> None:
        self._folder = folder
        self._request = request
        self._pid = os.getpid()
        self._leader: int | None = None
        self._exit: int | None = None
        self._watched: list[str] = []
        self._segments: shared_memory.Segments = {}
        self._segments_before = shared_memory.existing()
        self._sampled_at = self._segments_at = 0.0
        self._fate: Fate | None = None
        watch = request.get("watch") or {}
        self._stop_on_nan = bool(watch.get("stop_on_nan"))
        self._hang = hang.Watch(
            float(request["hang_timeout"]), request["progress_file"], hang.Rule.of(watch)
        )
        self._alerts = alerts.Watch(watch, request["progress_file"], request["node"])
        self._log_times = job_log.Times(folder.log, folder.log_times)
        self._usage = usage.Meter(self._path(), request["env"].get("CUDA_VISIBLE_DEVICES"))
        self._written: dict[str, Any] = {}
        self._status: dict[str, Any] = {
            "version": 1,
            "state": State.STARTING.value,
            "run_id": request["run_id"],
            "stage": request["stage"],
            "node": request["node"],
            "marker": request["marker"],
            "boot_id": process_tree.boot_id(),
            "argv": request["argv"],
            "cwd": request["cwd"],
            "stop_grace": request["stop_grace"],
            "isolation": isolation.Method.NONE.value,
            "supervisor": list(process_tree.identity_of(self._pid)),
            "leader": None,
            "started_at": round(time.time(), 3),
            "ended_at": None,
            "exit_code": None,
            "signal": None,
            "reason": None,
            "descendants": [],
            "joined": [],
            "segments": {},
            "segments_removed": [],
            "notes": [],
            "usage": None,
            "alerts": [],
        }

    def run(self) -> None:
        """Run the job to its end.

        Raises:
            OSError: The last state could not be written; the tree is ended all the same.
        """
        process_tree.become_subreaper()
        try:
            self._publish()
            state, reason = self._start() or self._watch()
            self._finish(state, reason)
        except BaseException:
            process_tree.end_tree(self._living, 0, between=self._reap)
            raise
        self._take_leave(state)

    def _start(self) -> tuple[State, Reason] | None:
        """Start the leader; return how the job ended if it could not be started."""
        request = self._request
        peers = [
            Peer(str(peer["node"]), str(peer["host"]), int(peer["port"]))
            for peer in request["peers"]
        ]
        if len(peers) > 1:
            try:
                self._fate = Fate(self._settings(peers), self._wake)
            except OSError as error:
                hub = f"{peers[0].host}:{peers[0].port}"
                return self._because(
                    Kind.START_FAILED,
                    f"cannot listen for the job's other nodes on {hub}: {error}; the first peer's "
                    f"host has to be this node's own address and its port free",
                )
        hide = [str(path) for path in request["hide"]]
        command = launch.Command(
            argv=request["argv"],
            env=launch.environment(request, os.environ),
            cwd=request["cwd"],
            log=self._folder.log,
            hide=hide,
        )
        only_watch = request["isolation"] == isolation.Method.OPENED_PATHS.value
        started = launch.start(command, isolation.methods(hide, only_watch=only_watch))
        if self._fate is not None:
            self._fate.start()
        if started.refusal is not None:
            return self._because(Kind.START_FAILED, started.refusal.detail)
        self._leader = started.pid
        self._watched = isolation.uncovered(started.method, hide)
        self._status.update(state=State.RUNNING.value, isolation=started.method.value)
        if started.pid is not None:
            self._status["leader"] = list(process_tree.identity_of(started.pid))
        return None

    def _settings(self, peers: list[Peer]) -> Settings:
        request = self._request
        return Settings(
            node=request["node"],
            peers=peers,
            job=f"{request['run_id']}/{request['stage']}",
            token=request["token"],
            heartbeat_timeout=float(request["heartbeat_timeout"]),
            join_timeout=float(request["join_timeout"]),
        )

    def _wake(self) -> None:
        os.kill(self._pid, signal.SIGUSR1)

    def _watch(self) -> tuple[State, Reason | None]:
        """Watch until something ends the job; return its last state and why."""
        asked = False
        while True:
            self._reap()
            if self._exit is not None:
                state, kind, detail = of_exit(self._exit)
                return (state, None) if kind is None else self._because(kind, detail)
            if asked:
                return self._because(Kind.STOPPED, "was asked to stop")
            verdict = self._fate.verdict() if self._fate is not None else None
            if verdict is not None:
                if verdict.get("cause") == Kind.HUNG.value:
                    self._record_stacks()
                return of_kind(Kind(verdict["kind"])), verdict
            opened = self._sample()
            if opened is not None:
                return self._because(
                    Kind.ISOLATION,
                    f"process {opened.pid} has {opened.path} open, which belongs to another "
                    f"node; a job may only use the paths of its own node",
                )
            hung = self._hang.verdict(self._living)
            if hung is not None:
                return self._because(Kind.HUNG, f"{hung}; {self._record_stacks()}")
            broken = self._look_at_loss()
            if broken is not None:
                return self._because(Kind.NAN, f"{broken}; training.alerts.stop_on_nan is set")
            asked = self._wait(SAMPLE_SECONDS)

    def _look_at_loss(self) -> str | None:
        """Note new alerts; return the sentence of one that ends the job."""
        try:
            new = self._alerts.look()
        except OSError as error:
            print(f"could not look for alerts: {error}", file=sys.stderr, flush=True)  # noqa: T201
            return None
        if new:
            self._status["alerts"] = list(self._alerts.found)
        details = [alert["detail"] for alert in new if alert["kind"] == "nan"]
        return details[0] if details and self._stop_on_nan else None

    def _path(self) -> str:
        return ":".join([*self._request["path"], os.environ.get("PATH", os.defpath)])

    def _record_stacks(self) -> str:
        """Write down what the tree's Python processes are doing; return where, or why not."""
        living, folder = self._living(), self._folder
        members = hang_report.ranks(living)
        before = {pid: hang_report.cpu_ticks(pid) for pid, _ in members.values()}
        said = hang.record_stacks(living, self._path(), folder.stacks)
        try:
            stacks = folder.stacks.read_text(encoding="utf-8", errors="replace")
        except OSError:
            stacks = ""  # said already
        try:
            write_json(folder.hang, hang_report.describe(members, before, stacks, folder.log))
        except OSError as error:
            return f"{said}; no report, since {folder.hang} cannot be written: {error}"
        return said

    def _because(self, kind: Kind, detail: str) -> tuple[State, Reason]:
        node = self._request["node"]
        reason = {"kind": kind.value, "detail": detail, "node": node, "at": round(time.time(), 3)}
        return of_kind(kind), reason

    def _wait(self, seconds: float) -> bool:
        """Sleep until a child ends, the watch has a verdict, or the time is over.

        Returns:
            Whether the job was asked to stop.
        """
        told = signal.sigtimedwait(_WAITED, seconds)
        return told is not None and told.si_signo in _STOP

    def _living(self) -> set[process_tree.Identity]:
        return process_tree.descendants([self._pid])

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._leader:
                self._exit = os.waitstatus_to_exitcode(status)

    def _sample(self, *, now: bool = False) -> isolation.Opened | None:
        """Record the tree; return a hidden path that it has open."""
        clock = time.monotonic()
        if not now and clock - self._sampled_at < SAMPLE_SECONDS:
            return None
        self._sampled_at = clock
        self._log_times.note()
        living = sorted(self._living())
        pids = [process.pid for process in living]
        if now or clock - self._segments_at >= SEGMENT_SECONDS:
            self._segments_at = clock
            self._segments.update(shared_memory.used_by(pids, self._segments_before))
        used = self._usage.look(living)
        if used is not None:
            self._status["usage"] = used
        self._status["descendants"] = [list(process) for process in living]
        self._status["segments"] = dict(sorted(self._segments.items()))
        try:
            self._publish()
        except OSError as error:  # a full disk must not end a job that may go on
            print(f"could not write the state: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return isolation.first_opened(pids, self._watched) if self._watched else None

    def _publish(self) -> None:
        if self._fate is not None:
            self._status.update(joined=self._fate.joined(), notes=list(self._fate.notes))
        if self._status != self._written:
            write_json(self._folder.state, self._status)
            self._written = dict(self._status)

    def _finish(self, state: State, reason: Reason | None) -> None:
        """End what is left of the tree, tell the others, write the last state."""
        if self._fate is not None and state is not State.SUCCEEDED:
            self._fate.announce(state, reason)
        self._sample(now=True)
        done = process_tree.end_tree(
            self._living, float(self._request["stop_grace"]), between=self._reap
        )
        self._log_times.note(now=True)
        removed = shared_memory.remove_unused(self._segments)
        if self._fate is not None:
            self._fate.announce(state, reason)
        if done.left and reason is not None:
            pids = ", ".join(str(process.pid) for process in sorted(done.left))
            reason["detail"] += f"; not even SIGKILL ended process {pids}"
        if self._exit is not None:
            self._status["exit_code" if self._exit >= 0 else "signal"] = abs(self._exit)
        self._status.update(
            state=state.value,
            reason=reason,
            ended_at=round(time.time(), 3),
            descendants=[list(process) for process in sorted(done.left)],
            segments={},
            segments_removed=removed,
        )
        self._publish()

    def _take_leave(self, state: State) -> None:
        """Stay while other nodes need this one's last word or its relaying."""
        if self._fate is None or not self._fate.is_alive():
            return
        leaving = state is State.STOPPED
        deadline = time.monotonic() + FAREWELL_SECONDS
        while not self._fate.wait_settled(0):
            if leaving and time.monotonic() > deadline:
                return
            if self._wait(process_tree.POLL_SECONDS) and not leaving:
                self._fate.leave()
                leaving = True
                deadline = time.monotonic() + FAREWELL_SECONDS


def main(arguments: list[str]) -> None:
    """Supervise the job whose directory and inherited lock are given."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED | {signal.SIGHUP})
    folder = JobFolder(arguments[0])
    os.set_inheritable(int(arguments[1]), False)  # noqa: FBT003 (takes no names)
    request = read_json(folder.request)
    kept = {name: value for name, value in request.items() if name not in ("token", "secret_env")}
    write_json(folder.request, kept)
    Supervisor(folder, request).run()
