"""The SDK: plan, apply, resume; its bases look at runs, at nodes and at the network."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from pyswiftops import fleet_network, leftovers, notify, passport, release_line
from pyswiftops.checkpoints.shelf import Checkpoints
from pyswiftops.continuing import misfits
from pyswiftops.errors import BadInputError, Finding, PreflightError
from pyswiftops.events import Event
from pyswiftops.fabric.checking import ChecksFabric
from pyswiftops.network.decide import Decision
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RunFolder
from pyswiftops.pipeline import Pipeline, Replacement
from pyswiftops.planner import replan
from pyswiftops.planner.commands import check
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.preflight.launching import LooksFirst, no_look
from pyswiftops.results import RunResult, unheard
from pyswiftops.runs import Runs
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import CATALOG, select
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.store import not_writable
from pyswiftops.tokens import hub_tokens

ALL_STAGES = tuple(CATALOG)


class Client(Runs, ChecksFabric, LooksFirst):
    """Plans and applies runs.

    Args:
        runs: Folder that holds the runs' folders.
        on_output: Called with what ansible-playbook itself prints; it is quiet without.
    """

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

    def network(self, fleet: Fleet, spec: RunSpec | None = None, *, now: bool = False) -> Decision:
        """What a fleet trains over: each node's variables, each with its reason.

        Args:
            fleet: The machines; spares too.
            spec: A run, whose ``training.env`` wins over what is derived.
            now: Ask the nodes; else what they told at ``swiftops up`` is taken.

        Raises:
            BadInputError: nothing is kept, and ``now`` is not set.
        """
        if now:
            return fleet_network.asked(fleet, spec, self.on_output)
        return fleet_network.kept(fleet, spec)

    def apply(
        self,
        plan: Plan,
        *,
        stages: Iterable[str] = ALL_STAGES,
        again: bool = False,
        preflight: bool = True,
        on_event: Callable[[Event], None] = lambda _event: None,
        cancelled: threading.Event | None = None,
        replacement: Replacement | None = None,
    ) -> RunResult:
        """Run exactly what ``plan`` holds; stages that have succeeded are not repeated.

        Args:
            plan: From :meth:`plan`.
            stages: Which stages, by name.
            again: Repeat those that have succeeded.
            preflight: Look at the nodes before, unless the fleet file says not to, or nothing
                of the run is left to launch.
            on_event: Called for every event of the run, from one thread at a time.
            cancelled: Set it, from any thread, to stop the run.
            replacement: Nodes that take the places of others first; see :meth:`resume`.

        Raises:
            BadInputError: an unknown stage, or the run id belongs to another plan.
            PreflightError: something stands in the launch's way; nothing was started.
            RunConflictError: another controller drives the run.
            StageFailedError: a stage failed; what it started is stopped.
            RunStoppedError: the run was asked to stop; what it started is stopped.
        """
        chosen = select(stages)
        store = self._store(plan.run_id)
        launches = preflight and plan.fleet.preflight.before_launch
        launches = launches and (again or not store.done(chosen))
        begun = store.folder.state.exists()
        look = self._first_look(plan, begun=begun) if launches else no_look
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
                look=look,
            )
            try:
                pipeline.run(chosen)
            except PreflightError:  # nothing was started
                raise
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
        preflight: bool = True,
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
            preflight: As for :meth:`apply`.
            on_event: As for :meth:`apply`.
            cancelled: As for :meth:`apply`.

        Raises:
            RunNotFoundError: there is no such run.
            RunConflictError: another controller drives it, or its plan cannot be read.
            BadInputError: a node that is to be replaced, or to replace one, cannot be.
            PreflightError, StageFailedError, RunStoppedError: as :meth:`apply`.
        """
        store = self._store(run_id)
        plan = store.plan()
        stages = store.load()["requested"] or ALL_STAGES
        new = (replace, replan.replaced(plan.fleet, replace, fleet)) if replace else None
        return self.apply(
            plan,
            stages=stages,
            preflight=preflight,
            on_event=on_event,
            cancelled=cancelled,
            replacement=new,
        )
