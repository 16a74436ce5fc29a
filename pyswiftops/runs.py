"""Runs of a folder as the SDK has them: listed, looked at, read, stopped, removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pyswiftops import joblogs
from pyswiftops.errors import BadInputError, Finding, RunConflictError, StageFailedError
from pyswiftops.events import Event
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RunFolder, check_run_id
from pyswiftops.results import (
    ALIVE,
    CommandResult,
    JobStatus,
    LogLine,
    RunResult,
    RunSummary,
    job_status,
    run_summary,
)
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.catalog import CATALOG, stage_of
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

ALL_JOBS = tuple(job for stage in CATALOG.values() for job in stage.jobs)
STOP_SECONDS = 120.0
LOOK_SECONDS = 0.2


class Runs:
    """The part of :class:`pyswiftops.Client` that looks at runs and ends them.

    Args:
        runs: Folder that holds the runs' folders.
        on_output: Called with what ansible-playbook itself prints; it is quiet without.
    """

    def __init__(
        self, runs: str | Path = "runs", on_output: Callable[[str], None] | None = None
    ) -> None:
        self.runs = Path(runs).resolve()
        self.on_output = on_output

    def events(self, run_id: str, *, follow: bool = False) -> Iterator[Event]:
        """A run's events from the first on.

        Args:
            run_id: The run's id.
            follow: Go on until the run ends or no controller drives it any more.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return self._store(run_id).events(follow=follow)

    def list_runs(self) -> list[RunSummary]:
        """All runs of the folder, the oldest first."""
        return sorted(
            (run_summary(self._store(path.parent.name)) for path in self.runs.glob("*/run.json")),
            key=lambda run: (run.created_at, run.run_id),
        )

    def remove(self, run_id: str, *, nodes: bool = True) -> None:
        """Remove a run: its folder here, and its files on the nodes.

        Args:
            run_id: The run's id.
            nodes: Also remove ``<root>/runs/<run>`` on every node, checkpoints included.

        Raises:
            RunNotFoundError: there is no such run.
            RunConflictError: a controller drives it, or one of its jobs is alive.
            StageFailedError: a node could not be cleared; nothing is removed here then.
        """
        store = self._store(run_id)
        store.load()
        with store.driving(store.load()["requested"]):
            if nodes:
                self._remove_on_nodes(run_id)
            shutil.rmtree(store.folder.root)

    def _remove_on_nodes(self, run_id: str) -> None:
        alive = [job for job in self.status(run_id) if job.state in ALIVE]
        if alive:
            raise RunConflictError(
                Finding(
                    "a run without living jobs",
                    ", ".join(f"{job.job} on {job.node}" for job in alive),
                    f"run {run_id}",
                    f"stop it first: swiftops stop {run_id} --runs {self.runs}",
                )
            )
        result = self._nodes(run_id).play("remove", {"swiftops_run_id": run_id})
        if not result.ok:
            failure = result.failures[-1]
            message = str(failure.data.get("msg", failure.data))
            raise StageFailedError("remove", failure.node, message)

    def load(self, run_id: str) -> RunResult:
        """What is recorded of a run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        store = self._store(run_id)
        return RunResult(run_id, store.folder.root, store.load()["stages"])

    def status(
        self, run_id: str, *, tail: int = 0, jobs: Iterable[str] = ALL_JOBS
    ) -> list[JobStatus]:
        """Ask the nodes how a run's jobs stand.

        Args:
            run_id: The run's id.
            tail: Log lines to bring along.
            jobs: Which jobs.

        Raises:
            RunNotFoundError: there is no such run.
        """
        told = map(job_status, self._nodes(run_id).jobs(run_id, jobs, tail=tail))
        return list(dict.fromkeys(told))  # a node that does not answer is told once

    def stop(self, run_id: str, jobs: Iterable[str] = ALL_JOBS) -> list[JobStatus]:
        """End a run's jobs on all nodes; returns those that were ended.

        A controller that drives the run, in whatever process, stops too, if all jobs are meant.

        Raises:
            RunNotFoundError: there is no such run.
            StageFailedError: a node could not be reached, or a process would not end.
        """
        chosen = tuple(jobs)
        store = self._store(run_id)
        store.load()
        driven = set(chosen) >= set(ALL_JOBS) and store.driven()
        if driven:
            store.ask_to_stop()
        ended = self._stop_jobs(run_id, chosen)
        if not driven:
            return ended
        deadline = time.monotonic() + STOP_SECONDS
        while store.driven():
            if time.monotonic() > deadline:
                detail = f"the controller that drives run {run_id} has not stopped"
                raise StageFailedError("stop", "", detail)
            time.sleep(LOOK_SECONDS)
        return ended + self._stop_jobs(run_id, chosen)  # what it started in between

    def _end_jobs(self, run_id: str, problem: BaseException) -> None:
        """End what a failed run left; of a node that is lost its own error tells already."""
        try:
            self._stop_jobs(run_id, ALL_JOBS)
        except StageFailedError as silent:
            if getattr(problem, "node", None) != silent.node:
                raise

    def _stop_jobs(self, run_id: str, jobs: Iterable[str]) -> list[JobStatus]:
        ended = [job_status(item) for item in self._nodes(run_id).stop(run_id, jobs)]
        for stage in {stage_of(job.job) for job in ended}:
            self._store(run_id).update(stage, state=StageState.STOPPED.value)
        return ended

    def logs(
        self,
        run_id: str,
        *,
        jobs: Iterable[str] = ALL_JOBS,
        node: str | None = None,
        tail: int | None = 50,
        since: float | None = None,
        follow: bool = False,
    ) -> Iterator[LogLine]:
        """Lines of a run's job logs, merged over the nodes.

        Args:
            run_id: The run's id.
            jobs: Which jobs.
            node: Only this node's.
            tail: How many last lines of each log; all of them where it is None, or ``follow`` set.
            since: Only lines that came after, in seconds since the epoch by the nodes' clocks;
                of earlier lines those of a few seconds may come too.
            follow: Go on with new lines until all jobs have ended and no controller drives
                the run.

        Raises:
            RunNotFoundError: there is no such run.
            BadInputError: there is no such node.
            StageFailedError: a node did not answer; lines of the others came before.
        """
        source = joblogs.Source(self._nodes(run_id), run_id, tuple(jobs), node, since)
        if follow or tail is None:
            driven = self._store(run_id).driven if follow else None
            return joblogs.all_lines(source, driven)
        return joblogs.last_lines(source, tail)

    def execute(self, fleet: Fleet, argv: Iterable[str]) -> list[CommandResult]:
        """Run a command on every node, with the node's Python first on its PATH; no shell.

        Args:
            fleet: The machines.
            argv: The command and its arguments.

        Returns:
            One result a node, in rank order.
        """
        words = list(argv)
        if not words:
            raise BadInputError(
                Finding("a command", "none", "argv", "for instance: swiftops exec -- nvidia-smi")
            )
        return Nodes(fleet, self.on_output).execute(words)

    def _store(self, run_id: str) -> RunStore:
        return RunStore(RunFolder(self.runs, check_run_id(run_id)))

    def _nodes(self, run_id: str) -> Nodes:
        """The nodes of a run that is there."""
        store = self._store(run_id)
        store.load()
        return Nodes(Fleet.load(store.folder.fleet), self.on_output)
