"""The public API as callers write it; mypy checks this file, nothing runs it.

tests/unit/test_api.py holds that each public name, and each method of the client, stands here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from pyswiftops import (
    BadInputError,
    Client,
    CommandResult,
    Event,
    EventKind,
    Finding,
    Fleet,
    FleetError,
    JobStatus,
    LogLine,
    Plan,
    RunConflictError,
    RunNotFoundError,
    RunResult,
    RunSpec,
    RunSpecError,
    RunStoppedError,
    RunSummary,
    StageFailedError,
    StageState,
    SwiftOpsError,
)
from pyswiftops.checkpoints.ledger import Checkpoint, Ledger
from pyswiftops.checkpoints.moving import Gathered
from pyswiftops.checkpoints.retention import Keep
from pyswiftops.checkpoints.shelf import Checkpoints, Pruned, Source
from pyswiftops.fabric.plan import Options
from pyswiftops.fabric.report import FabricReport
from pyswiftops.fabric.verdicts import Fault
from pyswiftops.preflight.report import Report


def show(event: Event) -> None:
    """A listener."""
    assert_type(event.kind, EventKind)
    assert_type(event.data, Mapping[str, Any])
    assert_type((event.stage, event.node, event.at, event.time), tuple[str, str, float, float])


def plan_and_apply(client: Client) -> RunResult:
    """From two files to a run."""
    fleet = Fleet.load("fleet.yml")
    spec = RunSpec.load(Path("run.yml"))
    plan = client.plan(fleet, spec, run_id="one")
    assert_type(plan, Plan)
    assert_type(plan.text(), str)
    client.apply(plan, stages=["data", "convert"], on_event=show)
    return client.apply(plan, again=True, cancelled=threading.Event())


def look(client: Client) -> None:
    """What there is of a run."""
    assert_type(client.load("one"), RunResult)
    assert_type(client.load("one").stages, Mapping[str, Mapping[str, Any]])
    assert_type(client.list_runs(), list[RunSummary])
    assert_type(client.status("one", tail=5, jobs=["train"]), list[JobStatus])
    for line in client.logs("one", node="node-1", follow=True):
        assert_type(line, LogLine)
    assert_type(list(client.logs("one", tail=None, since=1.5)), list[LogLine])
    for event in client.events("one", follow=True):
        assert_type(event, Event)


def look_at_checkpoints(client: Client, fleet: Fleet) -> None:
    """What the nodes hold, and what may go."""
    assert_type(client.checkpoints, Checkpoints)
    assert_type(client.checkpoints.names(), list[str])
    assert_type(client.checkpoints.ls("one"), Ledger)
    assert_type(client.checkpoints.adopt("old", fleet, ["node-1:/data"]), Ledger)
    for item in client.checkpoints.ls("one").checkpoints:
        assert_type(item, Checkpoint)
        assert_type((item.complete, item.resume.possible), tuple[bool, bool])
    plan = client.checkpoints.prune_plan("one", Keep(last=2, best=True, every=1000))
    assert_type(plan.goes, tuple[Checkpoint, ...])
    assert_type(client.checkpoints.prune(plan), Pruned)
    assert_type(client.checkpoints.gather("one", "checkpoint-10", to="node-1"), Gathered)
    assert_type(client.checkpoints.source("one"), Source)
    assert_type(client.checkpoints.look(client.checkpoints.source("one"))[0], Ledger)


def change(client: Client, fleet: Fleet) -> None:
    """What changes a run."""
    assert_type(client.resume("one", on_event=show), RunResult)
    client.resume("one", replace={"node-2": "node-5"}, fleet=fleet)
    assert_type(client.stop("one"), list[JobStatus])
    client.remove("one", nodes=False)
    assert_type(client.execute(fleet, ["nvidia-smi"]), list[CommandResult])
    assert_type(client.preflight(fleet, only=["shm"], fix=True), Report)
    assert_type(client.preflight(fleet, record=True).blocking[0].remedy, str)
    assert_type(client.resolved(fleet), Fleet)
    decision = client.network(fleet, now=True)
    assert_type(decision.environment("node-1"), dict[str, str])
    report = client.check_fabric(fleet, nodes=["node-1", "node-2"], options=Options(least=20))
    assert_type(report, FabricReport)
    assert_type(report.faults, tuple[Fault, ...])


async def from_asyncio(client: Client, plan: Plan) -> None:
    """Both ways of asyncio."""
    assert_type(await client.apply_async(plan, stages=["data"]), RunResult)
    async for event in client.stream(plan):
        assert_type(event, Event)


def fail(client: Client, plan: Plan) -> str:
    """Errors, from the most special to the base."""
    try:
        client.apply(plan)
    except StageFailedError as problem:
        assert_type((problem.stage, problem.node, problem.detail), tuple[str, str, str])
    except (FleetError, RunSpecError, RunNotFoundError, RunConflictError) as problem:
        assert_type(problem.findings, tuple[Finding, ...])
    except BadInputError as problem:
        return problem.findings[0].remedy
    except RunStoppedError:
        return StageState.STOPPED.value
    except SwiftOpsError as problem:
        assert_type(problem.exit_code, int)
    return ""
