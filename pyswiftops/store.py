"""``run.json``: all that the controller knows of a run, and the lock of the one that drives it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from pyswiftops.errors import Finding, RunConflictError, RunNotFoundError
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan
from pyswiftops.states import StageState, run_state

VERSION = 1


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

    def create(self, plan: Plan) -> None:
        """Make the run's folder, or join the run that is there.

        Raises:
            RunConflictError: the id belongs to a run with another plan.
        """
        if self.folder.state.exists():
            if self.load()["digest"] != plan.digest:
                raise RunConflictError(
                    Finding(
                        f"run id {plan.run_id!r} for this plan only",
                        "a run of that id with another spec or fleet",
                        str(self.folder.root),
                        "choose another id (--run-id), or remove that folder",
                    )
                )
            return
        self.folder.root.mkdir(parents=True, exist_ok=True)
        write_json(self.folder.plan, plan.to_dict())
        self.folder.fleet.write_text(plan.fleet.to_yaml(), encoding="utf-8")
        write_json(
            self.folder.state,
            {
                "version": VERSION,
                "run_id": plan.run_id,
                "digest": plan.digest,
                "fleet": plan.fleet.name,
                "created_at": time.time(),
                "stages": {},
            },
        )

    def load(self) -> dict[str, Any]:
        """The state as it is on disk.

        Raises:
            RunNotFoundError: there is no such run.
        """
        try:
            state: dict[str, Any] = json.loads(self.folder.state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = sorted(path.parent.name for path in self.folder.runs.glob("*/run.json"))
            raise RunNotFoundError(
                Finding(
                    f"a run {self.folder.run_id!r}",
                    f"runs {', '.join(known)}" if known else "no runs",
                    str(self.folder.runs),
                    "name one of them, or the folder that holds it (--runs)",
                )
            ) from None
        if state["version"] != VERSION:
            raise RunConflictError(
                Finding(
                    f"run.json of version {VERSION}",
                    f"version {state['version']}",
                    str(self.folder.state),
                    "use the version of pyswiftops that made the run",
                )
            )
        return state

    def stage_state(self, stage: str) -> StageState:
        """Where a stage stands."""
        recorded = self.load()["stages"].get(stage, {})
        return StageState(recorded.get("state", StageState.PENDING.value))

    def update(self, stage: str, **fields: Any) -> None:
        """Record fields of a stage."""
        with self._guard:
            state = self.load()
            state["stages"].setdefault(stage, {}).update(fields)
            states = [StageState(item["state"]) for item in state["stages"].values()]
            state["state"] = run_state(states).value
            write_json(self.folder.state, state)

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Hold the run's lock: one controller drives a run.

        Raises:
            RunConflictError: another process holds it.
        """
        with self.folder.lock.open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunConflictError(
                    Finding(
                        "one controller a run",
                        "another process that drives this run",
                        str(self.folder.lock),
                        f"wait for it, or stop the run: swiftops stop {self.folder.run_id}",
                    )
                ) from None
            yield


def summary(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages of a loaded run as rows: name, state, seconds."""
    return [
        {"stage": name, "state": item["state"], "seconds": item.get("seconds")}
        for name, item in state["stages"].items()
    ]
