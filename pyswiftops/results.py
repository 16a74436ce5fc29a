"""What the SDK returns."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyswiftops.errors import Finding, StageFailedError, SwiftOpsError
from pyswiftops.runner import ModuleResult
from pyswiftops.store import RunStore

ALIVE = frozenset({"starting", "running"})
SILENT = frozenset({"unreachable", "unknown"})


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
        job: The job's name, "" where the node did not answer.
        node: The node.
        state: absent, starting, running, succeeded, failed, stopped or lost; ``unreachable`` or
            ``unknown`` of a node that could not be asked, or not answer.
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


@dataclass(frozen=True)
class RunSummary:
    """A run as ``run.json`` tells of it.

    Attributes:
        run_id: The run's id.
        state: pending, running, succeeded, failed or stopped; ``unreadable`` where run.json is.
        driven: Whether a controller drives it now.
        fleet: The fleet's name.
        created_at: Seconds since the epoch.
        stages: stage -> state.
        problem: Why run.json cannot be read, or "".
    """

    run_id: str
    state: str
    driven: bool = False
    fleet: str = ""
    created_at: float = 0.0
    stages: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class LogLine:
    """A line of a job's log.

    Attributes:
        node: The node.
        job: The job's name.
        text: The line, without its end; of a progress bar what it showed last.
    """

    node: str
    job: str
    text: str


@dataclass(frozen=True)
class CommandResult:
    """How a command ended on a node.

    Attributes:
        node: The node.
        code: Its exit code; None where it did not run at all.
        stdout: What it printed.
        stderr: What it printed as errors, or why it did not run.
    """

    node: str
    code: int | None
    stdout: str
    stderr: str


def job_status(item: ModuleResult) -> JobStatus:
    """What the module ``job`` returned, as a job's status."""
    data = item.data
    if item.failed:
        state = "unreachable" if item.unreachable else "unknown"
        return JobStatus("", item.node, state, str(data.get("msg", data)).strip())
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


def all_answered(answers: Iterable[JobStatus], nodes: Container[str]) -> None:
    """See to it that no node was silent.

    Raises:
        StageFailedError: one of ``nodes`` did not answer.
    """
    for status in answers:
        if status.state in SILENT and status.node in nodes:
            raise StageFailedError("logs", status.node, status.detail)


def command_result(node: str, item: ModuleResult | None) -> CommandResult:
    """What the command's task returned on a node."""
    if item is None:
        return CommandResult(node, None, "", "the node was not asked")
    data = item.data
    code = data.get("rc") if not item.unreachable else None
    errors = str(data.get("stderr") or (data.get("msg", "") if code is None else ""))
    return CommandResult(node, code, str(data.get("stdout", "")), errors)


def run_summary(store: RunStore) -> RunSummary:
    """What is recorded of a run, in short; of one that cannot be read, why."""
    run_id = store.folder.run_id
    try:
        state = store.load()
    except SwiftOpsError as problem:
        return RunSummary(run_id, "unreadable", problem=str(problem))
    return RunSummary(
        run_id=run_id,
        state=str(state["state"]),
        driven=store.driven(),
        fleet=str(state["fleet"]),
        created_at=float(state["created_at"]),
        stages={name: str(item["state"]) for name, item in state["stages"].items()},
    )


def unheard(failure: ModuleResult) -> Finding:
    """What a node that did not answer is as a finding."""
    message = str(failure.data.get("msg", failure.data)).strip()
    return Finding("every node to answer", message, failure.node, "see docs/how-to/reach-nodes.md")
