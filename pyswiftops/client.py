"""The SDK: plan, apply, resume, status, logs, stop."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyswiftops import joblogs, leftovers, notify, passport, release_line
from pyswiftops.checkpoints.shelf import Checkpoints
from pyswiftops.continuing import misfits
from pyswiftops.errors import (
    BadInputError,
    Finding,
    RunConflictError,
    StageFailedError,
)
from pyswiftops.events import Event
from pyswiftops.fabric.checking import ChecksFabric
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RunFolder, check_run_id
from pyswiftops.pipeline import Pipeline, Replacement
from pyswiftops.planner import replan
from pyswiftops.planner.commands import check
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.preflight import playing as preflights
from pyswiftops.preflight.report import Report
from pyswiftops.results import (
    ALIVE,
    CommandResult,
    JobStatus,
    LogLine,
    RunResult,
    RunSummary,
    job_status,
    run_summary,
    unheard,
)
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import CATALOG, select, stage_of
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.states import StageState
from pyswiftops.store import RunStore, not_writable
from pyswiftops.tokens import hub_tokens

ALL_STAGES = tuple(CATALOG)
ALL_JOBS = tuple(job for stage in CATALOG.values() for job in stage.jobs)
STOP_SECONDS = 120.0
LOOK_SECONDS = 0.2


class Client(ChecksFabric):
    """Plans and applies runs.

    Args:
        runs: Folder that holds the runs' folders.
        on_output: Called with what ansible-playbook itself prints; it is quiet without.
    """

    def __init__(
        self, runs: str | Path = "runs", on_output: Callable[[str], None] | None = None
    ) -> None:
        self.runs = Path(runs).resolve()
        self.on_output = on_output

    @property
    def checkpoints(self) -> Checkpoints:
        """Checkpoints on the nodes of runs, and in folders that were adopted."""
        return Checkpoints(self.runs, self.on_output)

    def plan(self, fleet: Fleet, spec: RunSpec, run_id: str | None = None) -> Plan:
        """Check everything that can be known before a run, and render every command.

        Looks at the nodes (model, rows, roots, ports) and changes nothing.

        Raises:
            BadInputError: with all findings.
        """
        run_id = spec.name if run_id is None else run_id
        fleet, found = release_line.resolve(fleet, self.execute)
        nodes = nodes_from_vars(fleet.host_vars())
        plan = make_plan(fleet, spec, run_id)  # an unknown release line ends here
        findings = check(spec, nodes, {}) + notify.check(spec.notify)
        if found is not None and found.flags:
            findings += release_line.misfits(found, itertools.chain(*plan.jobs.values()))
        if findings:
            raise BadInputError(findings)
        # a run that is joined may hold its own port by now
        joining = RunFolder(self.runs, run_id).state.exists()
        fixed = isinstance(spec.deploy.port, int) and not joining
        ports = [spec.deploy.port] if fixed else []
        nodes_asked = Nodes(fleet, self.on_output)
        files = {"swiftops_plan_file": plan.to_dict()}
        result = nodes_asked.play("validate", {"inputs_ports": ports}, files)
        inputs = [item.data for item in result.results if item.action == "inputs"]
        told = [found for item in result.results for found in item.data.get("findings", ())]
        findings = [Finding(**found) for found in told]
        silent = [failure for failure in result.failures if "findings" not in failure.data]
        findings += [unheard(failure) for failure in silent]
        hub_tokens(fleet.hub.tokens, os.environ)  # a file that others can read ends here
        model = next((data["model"] for data in inputs if data.get("model")), None) or {}
        findings += check(plan.spec, nodes, model) if not findings else []
        findings += misfits(plan, self.on_output) if not (findings or joining) else []
        findings += not_writable(self.runs) if not findings else []
        if findings:
            raise BadInputError(list(dict.fromkeys(findings)))
        rows = sum(int(data.get("rows", 0)) for data in inputs)
        return Plan(run_id, fleet, plan.spec, plan.jobs, rows)

    def resolved(self, fleet: Fleet) -> Fleet:
        """The fleet with the release line that its nodes have, where its file says ``auto``.

        Raises:
            BadInputError: nodes have no ms-swift, or not the same.
            MatrixError: a node does not tell.
        """
        return release_line.resolve(fleet, self.execute)[0]

    def apply(
        self,
        plan: Plan,
        *,
        stages: Iterable[str] = ALL_STAGES,
        again: bool = False,
        on_event: Callable[[Event], None] = lambda _event: None,
        cancelled: threading.Event | None = None,
        replacement: Replacement | None = None,
    ) -> RunResult:
        """Run exactly what ``plan`` holds; stages that have succeeded are not repeated.

        Args:
            plan: From :meth:`plan`.
            stages: Which stages, by name.
            again: Repeat those that have succeeded.
            on_event: Called for every event of the run, from one thread at a time.
            cancelled: Set it, from any thread, to stop the run.
            replacement: Nodes that take the places of others first; see :meth:`resume`.

        Raises:
            BadInputError: an unknown stage, or the run id belongs to another plan.
            RunConflictError: another controller drives the run.
            StageFailedError: a stage failed; what it started is stopped.
            RunStoppedError: the run was asked to stop; what it started is stopped.
        """
        chosen = select(stages)
        store = self._store(plan.run_id)
        plan = store.create(plan)
        with passport.kept(store.folder), store.driving(chosen):
            leftovers.end(str(store.folder.root))  # of a controller that was killed
            pipeline = Pipeline(
                plan,
                store,
                on_event,
                again=again,
                on_output=self.on_output,
                cancelled=cancelled,
                replacement=replacement,
            )
            try:
                pipeline.run(chosen)
            except BaseException as problem:  # a listener's own, too, must leave no job behind
                leftovers.end(str(store.folder.root))  # of stages that were cancelled
                self._end_jobs(plan.run_id, problem)
                raise
            finally:
                pipeline.close()
        return RunResult(plan.run_id, store.folder.root, store.load()["stages"])

    async def apply_async(self, plan: Plan, **options: Any) -> RunResult:
        """:meth:`apply` for asyncio; cancelling the task stops the run.

        Args:
            plan: From :meth:`plan`.
            options: Those of :meth:`apply`; ``on_event`` is called from another thread.

        Raises:
            As :meth:`apply`.
        """
        cancelled = options.setdefault("cancelled", threading.Event())
        work = asyncio.ensure_future(asyncio.to_thread(self.apply, plan, **options))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([work])
            raise

    async def stream(self, plan: Plan, **options: Any) -> AsyncIterator[Event]:
        """Apply a plan and yield its events as they come; leaving the loop stops the run.

        Args:
            plan: From :meth:`plan`.
            options: Those of :meth:`apply`, but for ``on_event``.

        Raises:
            As :meth:`apply`, after the last event.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Event | None] = asyncio.Queue()

        def put(event: Event | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        task = asyncio.ensure_future(self.apply_async(plan, on_event=put, **options))
        task.add_done_callback(lambda _task: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def resume(
        self,
        run_id: str,
        *,
        replace: Mapping[str, str] | None = None,
        fleet: Fleet | None = None,
        on_event: Callable[[Event], None] = lambda _event: None,
        cancelled: threading.Event | None = None,
    ) -> RunResult:
        """Go on with a run after its last finished stage, by the plan that it was made with.

        Jobs that still run on the nodes are joined, not started again. Training that failed goes
        on from its last whole checkpoint.

        Args:
            run_id: The run's id.
            replace: Node of the run -> the spare that takes its place; the old node is not asked.
            fleet: A newer fleet file, with nodes that the run's own has not.
            on_event: As for :meth:`apply`.
            cancelled: As for :meth:`apply`.

        Raises:
            RunNotFoundError: there is no such run.
            RunConflictError: another controller drives it, or its plan cannot be read.
            BadInputError: a node that is to be replaced, or to replace one, cannot be.
            StageFailedError, RunStoppedError: as :meth:`apply`.
        """
        store = self._store(run_id)
        plan = store.plan()
        stages = store.load()["requested"] or ALL_STAGES
        new = (replace, replan.replaced(plan.fleet, replace, fleet)) if replace else None
        return self.apply(
            plan, stages=stages, on_event=on_event, cancelled=cancelled, replacement=new
        )

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

    def preflight(self, fleet: Fleet, spec: RunSpec | None = None, **options: Any) -> Report:
        """Look whether a fleet is fit before a launch; nothing is started.

        Args:
            fleet: The machines; spares too, where no run is given.
            spec: The run that is to be launched.
            options: ``only``, ``fix``, ``record``, ``rows``, as
                :class:`pyswiftops.preflight.playing.Options` says.

        Raises:
            BadInputError: there is no such check.
        """
        return preflights.preflight(fleet, spec, preflights.Options(**options), self.on_output)

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

    def _store(self, run_id: str) -> RunStore:
        return RunStore(RunFolder(self.runs, check_run_id(run_id)))

    def _nodes(self, run_id: str) -> Nodes:
        """The nodes of a run that is there."""
        store = self._store(run_id)
        store.load()
        return Nodes(Fleet.load(store.folder.fleet), self.on_output)
