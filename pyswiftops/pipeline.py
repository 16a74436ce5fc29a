"""Stages in the order of what they wait for; independent ones side by side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from pyswiftops.errors import StageFailedError
from pyswiftops.planner.plan import Plan
from pyswiftops.runner import ModuleResult, PlaybookResult, run_playbook
from pyswiftops.stages.catalog import CATALOG, Stage
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

PROGRESS = "progress"
STARTED = "stage_started"
FINISHED = "stage_finished"
FAILED = "stage_failed"


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        kind: ``stage_started``, ``progress``, ``stage_finished`` or ``stage_failed``.
        stage: The stage.
        at: Seconds since the run was applied.
        node: The node, where it is one.
        data: ``progress``: step, total, loss, seconds_per_step, remaining; finished: the
            stage's result and ``seconds``.
    """

    kind: str
    stage: str
    at: float
    node: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class Pipeline:
    """Runs a plan's stages.

    Args:
        plan: What to run.
        store: Where it is recorded.
        on_event: Called for every event, from one thread at a time.
        again: Run stages that have succeeded once more.
    """

    def __init__(
        self,
        plan: Plan,
        store: RunStore,
        on_event: Callable[[Event], None],
        *,
        again: bool = False,
    ) -> None:
        self._plan, self._store, self._on_event, self._again = plan, store, on_event, again
        self._guard = threading.Lock()
        self._begin = time.monotonic()
        self._cancelled = threading.Event()

    def run(self, stages: tuple[str, ...]) -> None:
        """Run ``stages`` that have not succeeded, in the order of what they wait for.

        A stage does not wait for one that was not asked for: what that leaves must be there.

        Raises:
            StageFailedError: the first stage that failed; stages beside it are cancelled, and
                their jobs are stopped.
        """
        done = {
            name
            for name in CATALOG
            if self._store.stage_state(name) is StageState.SUCCEEDED
            and not (self._again and name in stages)
        }
        waiting = [CATALOG[name] for name in stages if name not in done]
        running: dict[Future[None], Stage] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(max_workers=len(CATALOG)) as pool:
            while running or waiting:
                ready = [] if failure else self._ready(waiting, done, set(stages))
                for stage in ready:
                    waiting.remove(stage)
                    running[pool.submit(self._stage, stage)] = stage
                if not running:
                    break
                try:
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    self._cancelled.set()
                    raise
                for future in finished:
                    stage = running.pop(future)
                    problem = future.exception()
                    if problem is None:
                        done.add(stage.name)
                    elif failure is None:
                        failure = problem
                        self._cancelled.set()
        if failure is not None:
            raise failure

    @staticmethod
    def _ready(waiting: list[Stage], done: set[str], asked: set[str]) -> list[Stage]:
        """Stages whose predecessors have succeeded, or were not asked for."""
        return [
            stage
            for stage in waiting
            if all(name in done or name not in asked for name in stage.after)
        ]

    def _emit(self, kind: str, stage: str, node: str = "", **data: Any) -> None:
        with self._guard:
            at = time.monotonic() - self._begin
            self._on_event(Event(kind, stage, at, node, data))

    def _stage(self, stage: Stage) -> None:
        begin = time.monotonic()
        self._store.update(stage.name, state=StageState.RUNNING.value, started_at=time.time())
        self._emit(STARTED, stage.name, what=stage.what)
        try:
            result = self._playbook(stage)
        except BaseException as problem:
            state = StageState.STOPPED if self._cancelled.is_set() else StageState.FAILED
            self._end(stage, state, begin, error=str(problem))
            self._emit(FAILED, stage.name, error=str(problem), state=state.value)
            raise
        outcome = stage_outcome(result)
        self._end(stage, StageState.SUCCEEDED, begin, result=outcome)
        seconds = time.monotonic() - begin
        self._emit(FINISHED, stage.name, seconds=seconds, result=outcome)

    def _end(self, stage: Stage, state: StageState, begin: float, **fields: Any) -> None:
        self._store.update(
            stage.name,
            state=state.value,
            ended_at=time.time(),
            seconds=round(time.monotonic() - begin, 3),
            **fields,
        )

    def _playbook(self, stage: Stage) -> PlaybookResult:
        shown: dict[str, Any] = {}

        def on_result(result: ModuleResult) -> None:
            progress = result.data.get("progress") if result.action == "job" else None
            if progress and shown.get(result.node) != progress["step"]:
                shown[result.node] = progress["step"]
                self._emit(PROGRESS, stage.name, result.node, **progress)

        folder = self._store.folder
        result = run_playbook(
            f"stages.{stage.name}",
            folder.fleet,
            folder.ansible(stage.name),
            {
                "swiftops_run_id": self._plan.run_id,
                "swiftops_plan_file": str(folder.plan.resolve()),
                "stage_job_again": self._again,
            },
            forks=max(5, len(self._plan.fleet.nodes)),
            on_result=on_result,
            cancelled=self._cancelled.is_set,
        )
        if not result.ok:
            raise self._failure(stage, result)
        return result

    def _failure(self, stage: Stage, result: PlaybookResult) -> StageFailedError:
        kept = (
            f"kept: everything earlier stages left, and {self._store.folder.root}\n"
            f"resume: run the same command again; finished stages are not repeated"
        )
        if self._cancelled.is_set() and not result.failures:
            return StageFailedError(stage.name, "", "stopped, as another stage failed", kept=kept)
        if not result.failures:
            detail = f"ansible-playbook ended without a failed task; see {result.stdout}"
            return StageFailedError(stage.name, "", detail, kept=kept)
        last = result.failures[-1]
        message = str(last.data.get("msg") or last.data.get("stderr") or last.data)
        try:
            named = json.loads(message)
            node, detail = named["node"], named["detail"]
        except (ValueError, TypeError, KeyError):
            node, detail = last.node, message
        return StageFailedError(stage.name, node, detail, kept=kept)


def stage_outcome(result: PlaybookResult) -> dict[str, Any]:
    """What a stage found out, out of what its modules returned; recorded in run.json."""
    outcome: dict[str, Any] = {}
    for data in result.data("values").values():
        if data.get("known"):
            outcome["values"] = data["known"]
    for data in [*result.data("answers").values(), *result.data("chat").values()]:
        if data.get("answers"):
            outcome["answers"] = data["answers"]
    for data in result.data("checkpoint_info").values():
        if data.get("checkpoint"):
            outcome["checkpoint"] = data["checkpoint"]
    pulled = [item for item in result.results if item.action == "pull" and "bytes" in item.data]
    if pulled:
        outcome["bytes"] = sum(item.data["bytes"] for item in pulled)
    jobs = result.data("job")
    if jobs:
        outcome["logs"] = {node: data["log"] for node, data in jobs.items() if data.get("log")}
        outcome["argv"] = {node: data["argv"] for node, data in jobs.items() if data.get("argv")}
    return outcome
