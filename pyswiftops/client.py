"""The SDK: plan, apply, status, logs, stop."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyswiftops.errors import BadInputError, Finding, StageFailedError
from pyswiftops.paths import RunFolder
from pyswiftops.pipeline import Event, Pipeline
from pyswiftops.planner.commands import check
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.runner import ModuleResult, PlaybookResult, run_playbook
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import CATALOG, stage_of
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.states import StageState
from pyswiftops.store import RunStore, write_json

ALL_STAGES = tuple(CATALOG)
ALL_JOBS = tuple(job for stage in CATALOG.values() for job in stage.jobs)


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: The run's id.
        folder: The run's folder on the controller.
        stages: stage -> what ``run.json`` holds of it: state, seconds, result.
    """

    run_id: str
    folder: Path
    stages: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class JobStatus:
    """A job as its node sees it.

    Attributes:
        job: The job's name.
        node: The node.
        state: absent, starting, running, succeeded, failed, stopped or lost.
        detail: Why it ended as it did, or where it stands.
        log: Path of its log on the node.
        tail: Last lines of the log, where they were asked for.
    """

    job: str
    node: str
    state: str
    detail: str = ""
    log: str = ""
    tail: tuple[str, ...] = ()


class Client:
    """Plans and applies runs.

    Args:
        runs: Folder that holds the runs' folders.
    """

    def __init__(self, runs: str | Path = "runs") -> None:
        self.runs = Path(runs).resolve()

    def plan(self, fleet: Fleet, spec: RunSpec, run_id: str | None = None) -> Plan:
        """Check everything that can be known before a run, and render every command.

        Looks at the nodes (model, rows, roots, ports) and changes nothing.

        Raises:
            BadInputError: with all findings.
        """
        run_id = run_id or spec.name
        nodes = nodes_from_vars(fleet.host_vars())
        plan = make_plan(fleet, spec, run_id)  # an unknown release line ends here
        findings = check(spec, nodes, {})
        if findings:
            raise BadInputError(findings)
        # a run that is joined may hold its own port by now
        joining = RunFolder(self.runs, run_id).state.exists()
        fixed = isinstance(spec.deploy.port, int) and not joining
        ports = [spec.deploy.port] if fixed else []
        result = self._look("validate", fleet, {"inputs_ports": ports}, plan)
        inputs = result.data("inputs")
        findings = [
            Finding(**item) for data in inputs.values() for item in data.get("findings", ())
        ]
        unheard = [failure for failure in result.failures if "findings" not in failure.data]
        findings += [_unheard(failure) for failure in unheard]
        first = inputs.get(fleet.nodes[0].name, {})
        findings += check(plan.spec, nodes, first.get("model", {})) if not findings else []
        findings += self._look_at_runs() if not findings else []
        if findings:
            raise BadInputError(list(dict.fromkeys(findings)))
        return Plan(run_id, fleet, plan.spec, plan.jobs, int(first.get("rows", 0)))

    def apply(
        self,
        plan: Plan,
        *,
        stages: Iterable[str] = ALL_STAGES,
        again: bool = False,
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> RunResult:
        """Run exactly what ``plan`` holds; stages that have succeeded are not repeated.

        Args:
            plan: From :meth:`plan`.
            stages: Which stages, by name.
            again: Repeat those that have succeeded.
            on_event: Called for every event of the run.

        Raises:
            BadInputError: an unknown stage, or the run id belongs to another plan.
            StageFailedError: a stage failed; what it started is stopped.
        """
        chosen = tuple(stages)
        unknown = [name for name in chosen if name not in CATALOG]
        if unknown:
            raise BadInputError(
                Finding(
                    f"stages: {', '.join(CATALOG)}",
                    ", ".join(unknown),
                    "stages",
                    "name one of them",
                )
            )
        store = self._store(plan.run_id)
        store.create(plan)
        with store.driving():
            try:
                Pipeline(plan, store, on_event, again=again).run(chosen)
            except (StageFailedError, KeyboardInterrupt):
                self.stop(plan.run_id)
                raise
        return RunResult(plan.run_id, store.folder.root, store.load()["stages"])

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
        result = self._ask(run_id, "status", jobs, swiftops_tail=tail)
        return [_job_status(item) for item in result.results if item.action == "job"]

    def stop(self, run_id: str, jobs: Iterable[str] = ALL_JOBS) -> list[JobStatus]:
        """End a run's jobs on all nodes; returns those that were ended.

        Raises:
            RunNotFoundError: there is no such run.
            StageFailedError: a node could not be reached, or a process would not end.
        """
        result = self._ask(run_id, "stop", jobs)
        if not result.ok:
            failure = result.failures[-1]
            raise StageFailedError("stop", failure.node, str(failure.data.get("msg", failure.data)))
        jobs_seen = [item for item in result.results if item.action == "job"]
        ended = [_job_status(item) for item in jobs_seen if item.data.get("changed")]
        for stage in {stage_of(job.job) for job in ended}:
            self._store(run_id).update(stage, state=StageState.STOPPED.value)
        return ended

    def _store(self, run_id: str) -> RunStore:
        return RunStore(RunFolder(self.runs, run_id))

    def _look(
        self, playbook: str, fleet: Fleet, variables: Mapping[str, Any], plan: Plan | None = None
    ) -> PlaybookResult:
        """Run a playbook and leave nothing behind on the controller."""
        with tempfile.TemporaryDirectory(prefix="swiftops-") as folder:
            if plan is not None:
                file = Path(folder, "plan.json")
                write_json(file, plan.to_dict())
                variables = {**variables, "swiftops_plan_file": str(file)}
            inventory = Path(folder, "fleet.yml")
            inventory.write_text(fleet.to_yaml(), encoding="utf-8")
            forks = max(5, len(fleet.nodes))
            return run_playbook(playbook, inventory, Path(folder, "a"), variables, forks=forks)

    def _ask(
        self, run_id: str, playbook: str, jobs: Iterable[str], **variables: Any
    ) -> PlaybookResult:
        store = self._store(run_id)
        store.load()
        more = {"swiftops_run_id": run_id, "swiftops_jobs": list(jobs), **variables}
        return self._look(playbook, Fleet.load(store.folder.fleet), more)

    def _look_at_runs(self) -> list[Finding]:
        """Whether the runs folder can be written."""
        above = self.runs
        while not above.exists():
            above = above.parent
        if above.is_dir() and os.access(above, os.W_OK):
            return []
        return [
            Finding(
                "a runs folder that can be written",
                f"{above} is not writable",
                str(self.runs),
                "name another folder (--runs)",
            )
        ]


def _unheard(failure: ModuleResult) -> Finding:
    message = str(failure.data.get("msg", failure.data)).strip()
    return Finding("every node to answer", message, failure.node, "see docs/how-to/reach-nodes.md")


def _job_status(item: ModuleResult) -> JobStatus:
    data = item.data
    progress = data.get("progress") or {}
    detail = str((data.get("reason") or {}).get("detail") or "")
    if not detail and progress:
        detail = f"step {progress.get('step')} of {progress.get('total')}"
    return JobStatus(
        job=Path(str(data.get("directory", ""))).name,
        node=item.node,
        state=str(data.get("state", "")),
        detail=detail,
        log=str(data.get("log") or ""),
        tail=tuple(str(line) for line in data.get("log_tail") or ()),
    )
