"""What is at work on a run's checkpoints: its jobs, its controller, runs that go on from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pyswiftops.checkpoints.ledger import Ledger
from pyswiftops.checkpoints.retention import InUse, Key
from pyswiftops.errors import StageFailedError, SwiftOpsError
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RunFolder
from pyswiftops.results import ALIVE, SILENT, JobStatus, job_status
from pyswiftops.specs.run import Resume
from pyswiftops.stages.catalog import CATALOG, stage_of
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

STAGES = tuple(CATALOG)
JOBS = tuple(job for stage in CATALOG.values() for job in stage.jobs)
LATER = STAGES[STAGES.index("train") + 1 :]
"""Stages whose jobs read the checkpoint that training left."""


def of_run(runs: Path, run_id: str, nodes: Nodes, ledger: Ledger) -> InUse:
    """What is at work on a run's checkpoints.

    Raises:
        StageFailedError: a node does not tell of its jobs.
    """
    store = RunStore(RunFolder(runs, run_id))
    jobs = [job_status(item) for item in nodes.jobs(run_id, JOBS)]
    for job in jobs:
        if job.state in SILENT:
            raise StageFailedError("prune", job.node, job.detail)
    alive = [job for job in jobs if job.state in ALIVE]
    driven = ["a controller drives the run"] if store.driven() else []
    training = [_sentence(job) for job in alive if stage_of(job.job) == "train"] + driven
    reading = [_sentence(job) for job in alive if stage_of(job.job) in LATER] + driven
    needed = _needed_by_runs(runs, run_id, ledger)
    gathered = _gathered(store, ledger)
    if reading and gathered is not None:
        needed[gathered] = reading[0]
    unnamed = reading[0] if reading and gathered is None and not training else ""
    return InUse(next(iter([*training, *_processes(ledger)]), ""), needed, unnamed)


def of_adopted(runs: Path, ledger: Ledger) -> InUse:
    """What is at work on adopted checkpoints."""
    return InUse(next(iter(_processes(ledger)), ""), _needed_by_runs(runs, "", ledger))


def _sentence(job: JobStatus) -> str:
    return f"job {job.job} on {job.node} is {job.state}"


def _processes(ledger: Ledger) -> list[str]:
    """Processes that name a folder that was looked into, or have files below it open."""
    return [
        f"on {node}: {users[0]}"
        for node, folders in ledger.used_by.items()
        for users in folders.values()
        if users
    ]


def _gathered(store: RunStore, ledger: Ledger) -> Key | None:
    """The checkpoint that the stages after training read, where it is recorded."""
    result = store.load()["stages"].get("gather", {}).get("result") or {}
    return _at(ledger, str(result.get("checkpoint") or ""))


def _at(ledger: Ledger, path: str) -> Key | None:
    """The checkpoint at a path of any node; of several in one folder the last one."""
    for item in reversed(ledger.checkpoints):
        if path and any(path in (held.path, held.base) for held in item.holdings):
            return item.key
    return None


def _needed_by_runs(runs: Path, run_id: str, ledger: Ledger) -> dict[Key, str]:
    """Checkpoints that other runs, whose training has not succeeded, are to go on from."""
    needed = {}
    for other, resume in _resumes(runs):
        key = None
        if resume.run is None:
            key = _at(ledger, resume.source)
        elif resume.run == run_id and resume.checkpoint is not None:
            named = [item.key for item in ledger.checkpoints if item.name == resume.checkpoint]
            key = next(iter(named), None)
        if key is not None and other != run_id:
            needed[key] = f"run {other} is to go on from it"
    return needed


def _resumes(runs: Path) -> Iterator[tuple[str, Resume]]:
    for path in sorted(runs.glob("*/run.json")):
        folder = RunFolder(runs, path.parent.name)
        try:
            trained = RunStore(folder).stage_state("train") is StageState.SUCCEEDED
            resume = json.loads(folder.plan.read_text(encoding="utf-8"))["run"]["resume"]
            if resume is not None and not trained:
                yield folder.run_id, Resume.model_validate(resume)
        except (SwiftOpsError, OSError, ValueError, KeyError, TypeError):
            continue  # of a version that resumed nothing, or not a plan
