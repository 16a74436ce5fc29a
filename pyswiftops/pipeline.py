"""Stages in the order of what they wait for; independent ones side by side."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import PurePosixPath
from typing import Any

from pyswiftops.ahead import Ahead
from pyswiftops.checkpoints.retrying import Again, Failure, again
from pyswiftops.continuing import TRAIN, Continuing
from pyswiftops.errors import RunStoppedError, StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.explain import Explanation, explain
from pyswiftops.notify import Notifier
from pyswiftops.planner import replan
from pyswiftops.planner.commands import hang_reports
from pyswiftops.planner.hang import text
from pyswiftops.planner.plan import Plan
from pyswiftops.preflight.finding import Found
from pyswiftops.recorded import recorded, tools
from pyswiftops.runner import ModuleResult, PlaybookResult, run_playbook
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.catalog import CATALOG, Stage, before
from pyswiftops.states import StageState
from pyswiftops.store import RunStore, write_json
from pyswiftops.tokens import hub_tokens

LOOK_SECONDS = 0.5
Replacement = tuple[Mapping[str, str], Fleet]
"""Old node -> new node, and the fleet with the new ones in the old ones' places."""


class Pipeline:
    """Runs a plan's stages.

    Args:
        plan: What to run.
        store: Where it is recorded.
        on_event: Called for every event, from one thread at a time; it is recorded before.
        again: Run stages that have succeeded once more.
        on_output: Called with what ansible-playbook itself prints.
        cancelled: Set from outside to end the run.
        replacement: Nodes that take the places of others before anything else is done.
        look: Looks at the nodes before anything is launched.
    """

    def __init__(
        self,
        plan: Plan,
        store: RunStore,
        on_event: Callable[[Event], None],
        *,
        again: bool = False,
        on_output: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
        replacement: Replacement | None = None,
        look: Callable[[Plan], Iterable[Found]] = lambda _plan: (),
    ) -> None:
        self._plan, self._store, self._on_event, self._again = plan, store, on_event, again
        self._on_output = on_output
        self._guard = threading.Lock()
        self._begin = time.monotonic()
        self._asked = cancelled or threading.Event()
        self._failed = threading.Event()
        self._alerts: set[tuple[str, str]] = set()  # stage, kind
        self._replacement, self._look = replacement, look
        self._continuing = Continuing(store, self._emit, on_output)
        self._known: dict[str, Explanation | None] = {}  # by stage
        self._notifier = Notifier(plan.spec.notify, plan.run_id, plan.fleet.name, self._told)

    def close(self) -> None:
        """Wait, but not for long, until the receivers of ``run.notify`` have been told."""
        self._notifier.close()

    def run(self, stages: tuple[str, ...]) -> None:
        """Run ``stages`` that have not succeeded, in the order of what they wait for.

        A stage does not wait for one that was not asked for: what that leaves must be there.

        Raises:
            StageFailedError: the first stage that failed; stages beside it are cancelled, and
                their jobs are stopped.
            PreflightError: something stands in the way of whatever would be launched.
            RunStoppedError: the run was asked to stop.
        """
        began = {"run_id": self._plan.run_id, "stages": list(stages), "tools": tools()}
        self._emit(EventKind.RUN_STARTED, "", began)
        try:
            if self._replacement is not None:
                self._plan = self._continuing.replace(self._plan, *self._replacement)
            for found in self._look(self._plan):
                self._emit(EventKind.PREFLIGHT, "", found.event(), found.node)
            self._run(stages)
        except (RunStoppedError, KeyboardInterrupt) as problem:
            self._emit(EventKind.RUN_STOPPED, "", {"error": str(problem) or "interrupted"})
            raise
        except BaseException as problem:
            self._emit(EventKind.RUN_FAILED, "", {"error": str(problem)})
            raise
        self._emit(EventKind.RUN_FINISHED, "", {"seconds": time.monotonic() - self._begin})

    def _run(self, stages: tuple[str, ...]) -> None:
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
                held = failure is not None or self._is_cancelled()
                for stage in [] if held else self._ready(waiting, done, set(stages)):
                    waiting.remove(stage)
                    running[pool.submit(self._stage, stage)] = stage
                if not running:
                    break
                try:
                    finished, _ = wait(running, LOOK_SECONDS, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    self._asked.set()
                    raise
                for future in finished:
                    stage = running.pop(future)
                    problem = future.exception()
                    if problem is None:
                        done.add(stage.name)
                    elif failure is None:
                        failure = problem
                        self._failed.set()
        if failure is not None:
            raise failure
        if waiting:
            raise RunStoppedError(self._stopped_sentence())

    def _is_cancelled(self) -> bool:
        return self._asked.is_set() or self._failed.is_set() or self._store.asked_to_stop()

    def _stopped_sentence(self) -> str:
        run_id = self._plan.run_id
        return f"run {run_id} was stopped\n{self._kept()}"

    def _kept(self) -> str:
        return (
            f"kept: everything earlier stages left, and {self._store.folder.root}\n"
            f"resume: swiftops resume {self._plan.run_id} --runs {self._store.folder.runs} "
            "(finished stages are not repeated)"
        )

    @staticmethod
    def _ready(waiting: list[Stage], done: set[str], asked: set[str]) -> list[Stage]:
        """Stages whose predecessors have succeeded, or were not asked for."""
        return [
            stage
            for stage in waiting
            if all(name in done or name not in asked for name in before(stage.name))
        ]

    def _emit(self, kind: EventKind, stage: str, data: Mapping[str, Any], node: str = "") -> None:
        with self._guard:
            event = Event(kind, stage, time.monotonic() - self._begin, node, data)
            if kind is EventKind.ALERT:
                self._alerts.add((stage, str(data["kind"])))
            self._store.record(event)
            self._on_event(event)
            self._notifier(event)

    def _told(self, outcome: Mapping[str, Any]) -> None:
        self._emit(EventKind.NOTIFIED, "", outcome)

    def _stage(self, stage: Stage) -> None:
        begin = time.monotonic()
        begun = self._store.stage_state(stage.name) is not StageState.PENDING
        self._store.update(
            stage.name, state=StageState.RUNNING.value, started_at=time.time(), error=None
        )
        self._emit(EventKind.STAGE_STARTED, stage.name, {"what": stage.what})
        try:
            outcome = {}
            if not self._plan.idle(stage.name):
                result = self._train(stage, begun) if stage.name == TRAIN else self._playbook(stage)
                outcome = stage_outcome(result)
        except BaseException as problem:
            stopped = isinstance(problem, RunStoppedError) or self._failed.is_set()
            state = StageState.STOPPED if stopped else StageState.FAILED
            self._end(stage, state, begin, error=str(problem))
            told = {"error": str(problem), "state": state.value}
            self._emit(EventKind.STAGE_FAILED, stage.name, told)
            raise
        self._end(stage, StageState.SUCCEEDED, begin, result=outcome)
        ended = {"seconds": time.monotonic() - begin, "result": outcome}
        self._emit(EventKind.STAGE_FINISHED, stage.name, ended)

    def _end(self, stage: Stage, state: StageState, begin: float, **fields: Any) -> None:
        self._store.update(
            stage.name,
            state=state.value,
            ended_at=time.time(),
            seconds=round(time.monotonic() - begin, 3),
            **fields,
        )

    def _train(self, stage: Stage, begun: bool) -> PlaybookResult:
        """Train, from where an earlier try has come to; and again where the run allows it."""
        begun, made = begun and not self._again, 0
        while True:
            start = self._continuing.start(self._plan, begun=begun)
            self._plan = start.plan
            folder, tell = self._store.folder, self._emit
            with Ahead(self._plan, folder, tell, self._is_cancelled, self._on_output) as ahead:
                result = self._play(stage, start.variables, ahead.take)
                ahead.trained = result.ok
            if result.ok:
                return result
            problem = self._failed_with(stage, result)
            if not isinstance(problem, StageFailedError):
                raise problem
            failure = how_it_failed(result, problem.node, self._known.get(stage.name))
            once_more = again(failure, made, self._plan.spec.retry)
            if once_more is None:
                raise problem
            begun, made = True, once_more.number
            self._before(once_more, problem)

    def _before(self, once_more: Again, problem: StageFailedError) -> None:
        """Say that training is tried again, wait, and replace what is lost."""
        retry = self._plan.spec.retry
        told = {
            "attempt": once_more.number,
            "attempts": retry.attempts,
            "why": once_more.why,
            "error": str(problem),
            "detail": f"{once_more.why}: try {once_more.number} of {retry.attempts}",
        }
        self._emit(EventKind.RETRY, TRAIN, told)
        deadline = time.monotonic() + retry.pause
        while time.monotonic() < deadline and not self._is_cancelled():
            time.sleep(LOOK_SECONDS)
        if self._is_cancelled():
            raise RunStoppedError(self._stopped_sentence())
        before = self._plan
        self._plan = self._continuing.recover(before, once_more)
        for name in replan.repeated(before.fleet, self._plan.fleet):
            if name in replan.ON_EVERY_NODE + replan.ON_LAST:
                self._stage(CATALOG[name])

    def _playbook(self, stage: Stage) -> PlaybookResult:
        result = self._play(stage, {})
        if not result.ok:
            raise self._failed_with(stage, result)
        return result

    def _play(
        self,
        stage: Stage,
        variables: Mapping[str, Any],
        also: Callable[[ModuleResult], None] = lambda _result: None,
    ) -> PlaybookResult:
        folder = self._store.folder
        events = NodeEvents(stage.name, self._emit)

        def take(result: ModuleResult) -> None:
            events.take(result)
            also(result)

        return run_playbook(
            f"stages.{stage.name}",
            folder.fleet,
            folder.ansible(stage.name),
            {
                "swiftops_run_id": self._plan.run_id,
                "swiftops_plan_file": str(folder.plan.resolve()),
                "stage_job_again": self._again,
                **self._secrets(stage),
                **variables,
            },
            forks=max(5, len(self._plan.fleet.nodes)),
            private=folder.private,
            on_result=take,
            on_output=self._on_output,
            cancelled=self._is_cancelled,
            owner=str(folder.root),
        )

    def _failed_with(
        self, stage: Stage, result: PlaybookResult
    ) -> StageFailedError | RunStoppedError:
        self._store.update(stage.name, result=stage_outcome(result))
        return self._failure(stage, result)

    def _secrets(self, stage: Stage) -> dict[str, Any]:
        """Tokens for the stages that ask hubs; the runner keeps variables out of artifacts."""
        pushes = stage.name == "export" and self._plan.spec.export.push is not None
        if stage.name != "fetch" and not pushes:
            return {}
        return {"swiftops_hub_tokens": hub_tokens(self._plan.fleet.hub.tokens, os.environ)}

    def _failure(self, stage: Stage, result: PlaybookResult) -> StageFailedError | RunStoppedError:
        if not result.failures and self._failed.is_set():
            return StageFailedError(
                stage.name, "", "stopped, as another stage failed", kept=self._kept()
            )
        if self._asked.is_set() or self._store.asked_to_stop():
            return RunStoppedError(self._stopped_sentence())
        if not result.failures:
            detail = f"ansible-playbook ended without a failed task; see {result.stdout}"
            return StageFailedError(stage.name, "", detail, kept=self._kept())
        report = self._keep_hang_report(result)
        last = result.failures[-1]
        message = str(last.data.get("msg") or last.data.get("stderr") or last.data)
        try:
            named = json.loads(message)
            node, detail = named["node"], named["detail"]
        except (ValueError, TypeError, KeyError):
            node, detail = last.node, message
        known = self._known[stage.name] = explain(detail)
        if known is not None:
            detail = f"{detail}\n{known}"
            if known.alert and (stage.name, known.alert) not in self._alerts:
                told = {"kind": known.alert, "detail": known.line, "node": node}
                self._emit(EventKind.ALERT, stage.name, told, node)
        if report:
            detail = f"{detail}\nwhat all ranks were doing: {report}"
        return StageFailedError(stage.name, node, detail, kept=self._kept())

    def _keep_hang_report(self, result: PlaybookResult) -> str:
        """Keep what a hung job's nodes saw in the run's folder; returns the page's path."""
        answers = [item for item in result.results if item.action == "job"]
        reports = hang_reports({item.node: item.data for item in answers if item.data.get("hang")})
        if not reports:
            return ""
        job = PurePosixPath(str(answers[-1].data.get("directory", "job"))).name
        folder = self._store.folder
        folder.hang(job).parent.mkdir(exist_ok=True)
        write_json(folder.hang_data(job), reports)
        folder.hang(job).write_text(text(job, reports), encoding="utf-8")
        return str(folder.hang(job))


class NodeEvents:
    """Turns what the module ``job`` returns, look by look, into events; each once.

    Args:
        stage: The stage that the looks belong to.
        emit: Called with kind, stage, data and node.
    """

    def __init__(
        self, stage: str, emit: Callable[[EventKind, str, Mapping[str, Any], str], None]
    ) -> None:
        self._stage, self._emit = stage, emit
        self._seen: dict[tuple[str, str], Any] = {}
        self._guard = threading.Lock()

    def take(self, result: ModuleResult) -> None:
        """Tell what is new in a result."""
        if result.unreachable:
            self._state(result.node, "", "unreachable", str(result.data.get("msg", "")))
        if result.action != "job":
            return
        data = result.data
        job = PurePosixPath(str(data.get("directory", ""))).name
        if data.get("state"):
            reason = data.get("reason") or {}
            detail = str(reason.get("detail") or "")
            self._state(result.node, job, str(data["state"]), detail)
            if reason.get("kind") == "hung" and self._new("hung", result.node, job):
                hung = {"kind": "hung", "detail": detail, "node": result.node}
                self._emit(EventKind.ALERT, self._stage, hung, result.node)
        progress = data.get("progress")
        if progress and self._new("step", result.node, progress["step"]):
            self._emit(EventKind.PROGRESS, self._stage, progress, result.node)
        usage = data.get("usage")
        if usage and self._new("usage", result.node, usage):
            self._emit(EventKind.USAGE, self._stage, usage, result.node)
        for alert in data.get("alerts") or ():
            if self._new(f"alert {alert}", result.node, alert):
                self._emit(EventKind.ALERT, self._stage, alert, result.node)

    def _state(self, node: str, job: str, state: str, detail: str) -> None:
        if self._new("state", node, (job, state)):
            told = {"job": job, "state": state, "detail": detail}
            self._emit(EventKind.NODE, self._stage, told, node)

    def _new(self, what: str, node: str, value: Any) -> bool:
        with self._guard:
            if self._seen.get((what, node)) == value:
                return False
            self._seen[what, node] = value
            return True


def how_it_failed(result: PlaybookResult, node: str, known: Explanation | None) -> Failure:
    """What a failed playbook tells of why training failed.

    Args:
        result: How the playbook ended.
        node: The node that failed first.
        known: The error of upstream that was found in its log.
    """
    silent = tuple(dict.fromkeys(item.node for item in result.failures if item.unreachable))
    told = result.data("job").get(node, {})
    kind = str((told.get("reason") or {}).get("kind") or "")
    if told.get("state") == "lost":
        kind = "lost"
    return Failure(node, kind, known, silent)


def stage_outcome(result: PlaybookResult) -> dict[str, Any]:
    """What a stage found out, out of what its modules returned; recorded in run.json."""
    outcome: dict[str, Any] = {}
    for data in result.data("values").values():
        if data.get("known"):
            outcome["values"] = data["known"]
    for data in [*result.data("answers").values(), *result.data("chat").values()]:
        if data.get("answers"):
            outcome["answers"] = data["answers"]
    outcome |= _checkpoints(result)
    pulled = [item for item in result.results if item.action == "pull" and "bytes" in item.data]
    if pulled:
        outcome["bytes"] = sum(item.data["bytes"] for item in pulled)
    for data in result.data("checkpoint_info").values():
        if data.get("gathered"):
            outcome["gathered"] = data["gathered"]
            outcome["bytes"] = outcome.get("bytes", 0) + data["gathered"]["moved"]
    jobs = result.data("job")
    if jobs:
        outcome["logs"] = {node: data["log"] for node, data in jobs.items() if data.get("log")}
        outcome["argv"] = {node: data["argv"] for node, data in jobs.items() if data.get("argv")}
    return outcome | recorded(result)


def _checkpoints(result: PlaybookResult) -> dict[str, Any]:
    """The checkpoint that a stage proved, and the one that training went on from."""
    proven = [data.get("checkpoint") for data in result.data("checkpoint_info").values()]
    taken = [data for data in result.data("resume_from").values() if data.get("iteration")]
    if taken:
        return {"resumed_from": {key: taken[0][key] for key in ("checkpoint", "iteration")}}
    return {"checkpoint": proven[-1]} if any(proven) else {}
