"""``run.json``: all that the controller knows of a run, and the lock of the one that drives it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any

from pyswiftops.errors import Finding, RunConflictError, RunNotFoundError
from pyswiftops.events import Event
from pyswiftops.migrations import VERSION, migrate
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan
from pyswiftops.private import clear_stale
from pyswiftops.states import StageState, run_state

FOLLOW_SECONDS = 0.2
LOCK_PAUSES = (0.02, 0.05, 0.1, 0.2)


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one: tmp, fsync, rename."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class RunStore:
    """One run's folder. Safe to use from several threads of one controller.

    Attributes:
        folder: The run's file names.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._guard = Lock()

    def create(self, plan: Plan) -> Plan:
        """Make the run's folder, or join the run that is there.

        Returns:
            The plan in force: of a run whose plan was revised, not the one it was begun with.

        Raises:
            RunConflictError: the id belongs to a run with another plan.
        """
        self.folder.root.mkdir(parents=True, exist_ok=True)
        with self._changing():  # two that begin at the same instant make it once
            if not self.folder.state.exists():
                self._write(plan)
                return plan
            state = self.load()
            if state["digest"] == plan.digest:
                return plan
            if plan.digest not in state.get("revised", ()):
                raise RunConflictError(
                    Finding(
                        f"run id {plan.run_id!r} for this plan only",
                        "a run of that id with another spec or fleet",
                        str(self.folder.root),
                        "choose another id (--run-id), or remove that folder",
                    )
                )
        return self.plan()

    def revise(self, plan: Plan) -> str:
        """Put another plan of this run in force; the one before is kept under a number.

        Returns:
            The file that keeps it.
        """
        with self._changing():
            state = self.load()
            revised = [*state.get("revised", ()), state["digest"]]
            kept = self.folder.kept_plan(len(revised))
            shutil.copyfile(self.folder.plan, kept)
            shutil.copyfile(self.folder.fleet, self.folder.kept_fleet(len(revised)))
            self._write_plan(plan)
            write_json(self.folder.state, {**state, "digest": plan.digest, "revised": revised})
        return str(kept)

    def first_plan(self) -> Plan:
        """The plan that the run was begun with.

        Raises:
            As :meth:`plan`.
        """
        first = self.folder.kept_plan(1)
        return self.plan(first) if first.exists() else self.plan()

    def _write_plan(self, plan: Plan) -> None:
        """The fleet file is the plan's own: stages read both."""
        write_json(self.folder.plan, plan.to_dict())
        partial = self.folder.fleet.with_name(f".{self.folder.fleet.name}.part")
        partial.write_text(plan.fleet.to_yaml(), encoding="utf-8")
        partial.replace(self.folder.fleet)

    def _write(self, plan: Plan) -> None:
        self._write_plan(plan)
        write_json(
            self.folder.state,
            {
                "version": VERSION,
                "run_id": plan.run_id,
                "digest": plan.digest,
                "fleet": plan.fleet.name,
                "created_at": time.time(),
                "state": StageState.PENDING.value,
                "controller": None,
                "requested": [],
                "stages": {},
            },
        )

    def load(self) -> dict[str, Any]:
        """The state as it is on disk, migrated to this version where an earlier one wrote it.

        Raises:
            RunNotFoundError: there is no such run.
            RunConflictError: the file is none that this version can read.
        """
        try:
            text = self.folder.state.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            known = sorted(path.parent.name for path in self.folder.runs.glob("*/run.json"))
            raise RunNotFoundError(
                Finding(
                    f"a run {self.folder.run_id!r}",
                    f"runs {', '.join(known)}" if known else "no runs",
                    str(self.folder.runs),
                    "name one of them, or the folder that holds it (--runs)",
                )
            ) from None
        try:
            state: dict[str, Any] = migrate(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise RunConflictError(
                Finding(
                    f"run.json of version {VERSION} or an earlier one",
                    str(problem),
                    str(self.folder.state),
                    "use the version of pyswiftops that made the run",
                )
            ) from None
        return state

    def plan(self, file: Path | None = None) -> Plan:
        """The plan in force, or the one that a file keeps.

        Raises:
            RunNotFoundError: there is no such run.
            RunConflictError: the file cannot be read as a plan of this version.
        """
        self.load()
        file = file or self.folder.plan
        try:
            return Plan.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise RunConflictError(
                Finding(
                    "a plan of this version",
                    str(problem),
                    str(file),
                    "plan anew under another id: swiftops run --run-id NEW",
                )
            ) from None

    def stage_state(self, stage: str) -> StageState:
        """Where a stage stands."""
        recorded = self.load()["stages"].get(stage, {})
        return StageState(recorded.get("state", StageState.PENDING.value))

    def done(self, stages: Iterable[str]) -> bool:
        """Whether all these stages have succeeded; False of a run that is not there."""
        if not self.folder.state.exists():
            return False
        return all(self.stage_state(stage) is StageState.SUCCEEDED for stage in stages)

    def update(self, stage: str, **fields: Any) -> None:
        """Record fields of a stage."""
        with self._changing():
            state = self.load()
            state["stages"].setdefault(stage, {}).update(fields)
            states = [StageState(item["state"]) for item in state["stages"].values()]
            state["state"] = run_state(states).value
            write_json(self.folder.state, state)

    def record(self, event: Event) -> None:
        """Append an event to ``events.jsonl``."""
        with self._guard, self.folder.events.open("a", encoding="utf-8") as file:
            file.write(event.line())

    def events(self, *, follow: bool = False) -> Iterator[Event]:
        """The run's events from the first on.

        Args:
            follow: Go on until no controller drives the run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        self.load()
        rest = ""
        self.folder.events.touch()
        with self.folder.events.open(encoding="utf-8", errors="replace") as file:
            while True:
                driven = self.driven()  # asked before reading: what it wrote last is then read
                while chunk := file.readline():
                    rest += chunk
                    if not rest.endswith("\n"):
                        continue
                    event, rest = _event(rest), ""
                    if event is not None:
                        yield event
                if not follow or not driven:
                    return
                time.sleep(FOLLOW_SECONDS)

    def driven(self) -> bool:
        """Whether a controller drives the run now."""
        try:
            with self.folder.lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def ask_to_stop(self) -> None:
        """Ask the controller that drives the run to stop; it looks every few seconds."""
        self.folder.stop_request.touch()

    def asked_to_stop(self) -> bool:
        """Whether somebody asked the controller to stop."""
        return self.folder.stop_request.exists()

    @contextmanager
    def driving(self, requested: Iterable[str] = ()) -> Iterator[None]:
        """Hold the run's lock: one controller drives a run.

        Args:
            requested: The stages that were asked for; recorded, so that a resume asks for them.

        Raises:
            RunConflictError: another process holds it.
        """
        with self.folder.lock.open("a", encoding="utf-8") as file:
            if not _taken_by_us(file):
                raise RunConflictError(self._taken())
            clear_stale(self.folder.private)
            self.folder.stop_request.unlink(missing_ok=True)
            self._end_torn_line()
            me = {"host": socket.gethostname(), "pid": os.getpid(), "started_at": time.time()}
            self._set(controller=me, requested=list(requested))
            try:
                yield
            finally:
                if self.folder.state.exists():  # the driver may have removed the run
                    self._set(controller=None)

    def _set(self, **fields: Any) -> None:
        with self._changing():
            write_json(self.folder.state, {**self.load(), **fields})

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One writer of ``run.json`` at a time: ``swiftops stop`` is a process of its own."""
        with self._guard, self.folder.state_lock.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _end_torn_line(self) -> None:
        """A killed controller may have left half a line, which no reader takes for an event."""
        with self.folder.events.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")

    def _taken(self) -> Finding:
        controller = self.load().get("controller") or {}
        who = (
            f"process {controller['pid']} on {controller['host']} drives this run"
            if controller
            else "another process that drives this run"
        )
        run_id = self.folder.run_id
        return Finding(
            "one controller a run",
            who,
            str(self.folder.lock),
            f"wait for it, watch it (swiftops attach {run_id}), or stop it: swiftops stop {run_id}",
        )


def _taken_by_us(file: IO[str]) -> bool:
    """Take the lock; :meth:`RunStore.driven` holds it for a moment, a controller for long."""
    for pause in (*LOCK_PAUSES, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


def _event(line: str) -> Event | None:
    """The event of a line; None for half a line that a killed controller left."""
    try:
        return Event.from_dict(json.loads(line))
    except ValueError:
        return None


def summary(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages of a loaded run as rows: name, state, seconds."""
    return [
        {"stage": name, "state": item["state"], "seconds": item.get("seconds")}
        for name, item in state["stages"].items()
    ]


def not_writable(runs: Path) -> list[Finding]:
    """What is wrong with a folder for runs; it need not be there yet."""
    above = runs
    while not above.exists():
        above = above.parent
    if above.is_dir() and os.access(above, os.W_OK):
        return []
    return [
        Finding(
            "a runs folder that can be written",
            f"{above} is not writable",
            str(runs),
            "name another folder (--runs)",
        )
    ]
