"""``swiftops rehearse``: the real run, two steps long, in scratch folders; then the forecast."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyswiftops import private
from pyswiftops.client import Client
from pyswiftops.errors import Finding, RunConflictError, RunStoppedError, StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.forecast import (
    NodeRoom,
    Outlook,
    disks,
    duration,
    memory,
    resumed,
    saves,
    step_seconds,
    total_steps,
)
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RehearsalFolder, scratch_root
from pyswiftops.planner.plan import Plan
from pyswiftops.results import ALIVE
from pyswiftops.runner import PlaybookResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import Resume, Retry, RunSpec
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.stages.lines import line
from pyswiftops.stages.sources import fetched_items

STEPS = 2
FIRST = ("fetch", "data", "convert", "infer", "roundtrip", "compare", "train", "gather")
AFTER = ("train", "gather", "export", "deploy", "smoke")
WHOLE_RUN = ("iterations", "epochs", "save_every", "log_every", "keep")
LEARNING_RATE = ("lr_warmup_iters", "lr_decay_iters", "lr_wsd_decay_iters")


@dataclass(frozen=True)
class Step:
    """One step of the rehearsal.

    Attributes:
        name: A stage, or ``resume`` for the training that went on from a checkpoint.
        ok: Whether it succeeded; None where it was not reached.
        seconds: Its wall time.
        detail: Why it failed.
    """

    name: str
    ok: bool | None
    seconds: float | None = None
    detail: str = ""


@dataclass
class Rehearsal:
    """What came of it.

    Attributes:
        steps: Every step, in order.
        outlook: How the whole run will fare; what was not reached is left out.
        seconds: Wall time of all.
        kept: Where everything lies, if it was kept.
    """

    steps: list[Step] = field(default_factory=list)
    outlook: list[Outlook] = field(default_factory=list)
    seconds: float = 0.0
    kept: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing failed, and nothing is known that would."""
        return all(step.ok for step in self.steps) and all(
            item.ok is not False for item in self.outlook
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for machines."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "steps": [vars(step) for step in self.steps],
            "outlook": [vars(item) for item in self.outlook],
            "kept": self.kept,
        }


def rehearsal_spec(spec: RunSpec, release: str) -> RunSpec:
    """The run as it is rehearsed: the same but for its length, its questions and its listeners.

    Args:
        spec: The real run.
        release: The fleet's release line.
    """
    names = line(release).verb("train").flags
    shortened = {names[name] for name in WHOLE_RUN} | set(LEARNING_RATE)
    extra = {stage: dict(flags) for stage, flags in spec.extra_args.items()}
    if "train" in extra:
        extra["train"] = {
            name: value for name, value in extra["train"].items() if name not in shortened
        }
    short = {"iterations": STEPS, "epochs": None, "save_every": 1, "log_every": 1}
    question = spec.smoke.questions[0].model_copy(update={"expect": []})
    return spec.model_copy(
        update={
            "training": spec.training.model_copy(update=short),
            "output": spec.output.model_copy(update={"keep": None}),
            "tracking": spec.tracking.model_copy(update={"report_to": ("tensorboard",)}),
            "deploy": spec.deploy.model_copy(update={"port": "auto"}),
            "smoke": spec.smoke.model_copy(update={"questions": [question], "max_tokens": 1}),
            "resume": None,
            "retry": Retry(),
            "extra_args": extra,
        }
    )


def resumed_spec(short: RunSpec) -> RunSpec:
    """The pass that goes on after the first step; without an optimizer, from the weights alone."""
    whole = short.output.save_optimizer
    mode = "continue" if whole else "restart"
    resume = Resume.model_validate({"from": f"{short.name}/checkpoint-1", "mode": mode})
    training = short.training.model_copy(update={"iterations": STEPS if whole else 1})
    return short.model_copy(update={"resume": resume, "training": training})


def scratch_fleet(fleet: Fleet, name: str) -> Fleet:
    """The same nodes, each in a scratch root below its own."""
    nodes = [
        node.model_copy(update={"root": scratch_root(fleet.node_root(node), name)})
        for node in fleet.nodes
    ]
    return fleet.model_copy(update={"nodes": nodes})


class Stageplay:
    """Runs a rehearsal.

    Args:
        client: Whose runs folder holds the scratch folder.
        fleet: The real fleet.
        spec: The real run.
        on_event: Called for every event of both passes.
    """

    def __init__(
        self, client: Client, fleet: Fleet, spec: RunSpec, on_event: Callable[[Event], None]
    ) -> None:
        self._spec, self._on_event = spec, on_event
        self._folder = RehearsalFolder(client.runs, spec.name)
        self._fleet = scratch_fleet(fleet, spec.name)
        self._nodes = Nodes(self._fleet, client.on_output)
        self._clients = (
            Client(self._folder.first, client.on_output),
            Client(self._folder.resumed, client.on_output),
        )
        self._events: tuple[list[Event], list[Event]] = ([], [])
        self._rooms: dict[str, dict[str, Mapping[str, Any]]] = {}

    def run(self, *, keep: bool) -> Rehearsal:
        """Both passes and the forecast; scratch folders go at the end unless ``keep``."""
        with private.alone(self._folder.lock) as held:
            if not held:
                raise RunConflictError(
                    Finding(
                        f"one rehearsal of {self._spec.name!r} at a time",
                        "another process that rehearses it",
                        str(self._folder.root),
                        "wait for it, or end it",
                    )
                )
            return self._run(keep=keep)

    def _run(self, *, keep: bool) -> Rehearsal:
        begin = time.monotonic()
        self._fleet = self._clients[0].resolved(self._fleet)
        short = rehearsal_spec(self._spec, self._fleet.line)
        plan = self._clients[0].plan(self._fleet, short)  # bad input ends here, nothing changed
        self.clear()
        result = Rehearsal()
        try:
            self._measure("before")
            if fetched_items(self._spec):
                self._scratch(fetches=True)
            self._pass(result, 0, plan, FIRST[:-1])
            self._measure("trained", "mcore", "roundtrip", "train")
            self._pass(result, 0, plan, FIRST[-1:])
            again = self._clients[1].plan(self._fleet, resumed_spec(short))
            self._pass(result, 1, again, AFTER)
            self._measure("exported", "export")
        except StageFailedError:
            pass  # told as a step of the result
        finally:
            if not keep:
                self.clear()
        result.steps += self._not_reached(result.steps)
        result.outlook = self._outlook(plan.rows)
        result.seconds = time.monotonic() - begin
        result.kept = str(self._folder.root) if keep else ""
        return result

    def _pass(self, result: Rehearsal, number: int, plan: Plan, stages: Iterable[str]) -> None:
        client, events = self._clients[number], self._events[number]

        def take(event: Event) -> None:
            events.append(event)
            self._on_event(event)

        try:
            client.apply(plan, stages=stages, again=number > 0, preflight=False, on_event=take)
        except RunStoppedError as problem:
            raise StageFailedError("rehearse", "", str(problem)) from problem
        finally:
            recorded = client.load(plan.run_id).stages
            result.steps += [
                Step(
                    _step_name(number, name),
                    recorded[name]["state"] == "succeeded",
                    recorded[name].get("seconds"),
                    str(recorded[name].get("error") or ""),
                )
                for name in CATALOG
                if name in recorded and name in stages
            ]

    @staticmethod
    def _not_reached(steps: Iterable[Step]) -> list[Step]:
        names = [_step_name(0, name) for name in FIRST] + [_step_name(1, name) for name in AFTER]
        seen = {step.name for step in steps}
        return [Step(name, None) for name in names if name not in seen]

    def _measure(self, when: str, *folders: str) -> None:
        variables = {"swiftops_run_id": self._spec.name, "swiftops_folders": list(folders)}
        result = self._nodes.play("room", variables)
        _succeeded(result)
        self._rooms[when] = result.data("room")

    def clear(self) -> None:
        """End what a rehearsal of this run started, and remove its scratch folders."""
        for client in self._clients:
            for run in client.list_runs():
                client.stop(run.run_id)
                alive = [job for job in client.status(run.run_id) if job.state in ALIVE]
                if alive:
                    raise StageFailedError("rehearse", alive[0].node, f"{alive[0].job} lives on")
        self._scratch(fetches=False)
        shutil.rmtree(self._folder.root, ignore_errors=True)
        with contextlib.suppress(OSError):  # not there, or another rehearsal is in it
            self._folder.root.parent.rmdir()

    def _scratch(self, *, fetches: bool) -> None:
        variables = {"swiftops_run_id": self._spec.name, "swiftops_scratch_fetches": fetches}
        _succeeded(self._nodes.play("scratch", variables))

    # The forecast.

    def _outlook(self, rows: int) -> list[Outlook]:
        spec, training = self._spec, self._spec.training
        steps = total_steps(training.iterations, training.epochs, rows, training.global_batch_size)
        found: list[Outlook] = []
        if steps is None:
            text = "epochs of rows that are fetched: give iterations for a forecast"
            found.append(Outlook("number of steps", ok=None, detail=text))
        elif "trained" in self._rooms:
            every = training.save_every or training.iterations
            count = saves(steps, every)
            found += disks(self._node_rooms(), count, spec.output.keep)
            found.append(duration(steps, step_seconds(self._logged())))
        if self._events[1]:
            weights_only = not spec.output.save_optimizer
            before, after = (self._loss(events) for events in self._events)
            found.append(resumed(before, after, weights_only=weights_only))
        totals = {node: int(data["memory"]) for node, data in self._rooms.get("before", {}).items()}
        return [*found, *memory(self._usage(), totals)]

    def _node_rooms(self) -> list[NodeRoom]:
        def taken(when: str, node: str, folder: str) -> Mapping[str, Any]:
            data = self._rooms.get(when, {}).get(node, {})
            found: Mapping[str, Any] = data.get("folders", {}).get(folder, {"bytes": 0})
            return found

        rooms = []
        for node in self._nodes.names:
            before = self._rooms["before"][node]
            saved = taken("trained", node, "train").get("entries", {})
            rooms.append(
                NodeRoom(
                    node=node,
                    filesystem=str(before["filesystem"]),
                    free=int(before["free"]),
                    base=taken("trained", node, "mcore")["bytes"],
                    roundtrip=taken("trained", node, "roundtrip")["bytes"],
                    checkpoint=int(saved.get(f"checkpoint-{STEPS}", 0)),
                    export=taken("exported", node, "export")["bytes"],
                )
            )
        return rooms

    def _logged(self) -> list[tuple[int, int, float]]:
        return [
            (number, int(event.data["step"]) - number, float(event.data["seconds_per_step"]))
            for number, events in enumerate(self._events)
            for event in events
            if event.kind is EventKind.PROGRESS and event.data.get("seconds_per_step")
        ]

    @staticmethod
    def _loss(events: Iterable[Event]) -> float | None:
        losses = [
            float(event.data["loss"])
            for event in events
            if event.kind is EventKind.PROGRESS
            and event.data["step"] == STEPS
            and event.data.get("loss") is not None
        ]
        return losses[-1] if losses else None

    def _usage(self) -> dict[str, list[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for event in (*self._events[0], *self._events[1]):
            if event.kind is EventKind.USAGE:
                found.setdefault(event.node, []).append(event.data)
        return found


def _succeeded(result: PlaybookResult) -> None:
    if not result.ok:
        failure = result.failures[-1]
        detail = str(failure.data.get("msg", failure.data))
        raise StageFailedError("rehearse", failure.node, detail)


def _step_name(number: int, stage: str) -> str:
    """What a stage is called in the table: the second pass repeats two of them."""
    if number == 0:
        return stage
    return {"train": "resume", "gather": "gather again"}.get(stage, stage)


def rehearse(
    client: Client,
    fleet: Fleet,
    spec: RunSpec,
    *,
    keep: bool = False,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> Rehearsal:
    """Rehearse a run: two steps, save, gather, one step resumed, export, serve, one token.

    Args:
        client: Its runs folder holds the rehearsal's own while it lasts.
        fleet: The machines; each node works in a folder of ``<root>/rehearsal``.
        spec: The real run; its parallel sizes are the real ones.
        keep: Leave the scratch folders and the server.
        on_event: Called for every event.

    Raises:
        BadInputError: the run could not even be planned; nothing was changed.
        RunConflictError: another process rehearses this run.
        StageFailedError: the scratch folders could not be measured or cleared.
    """
    return Stageplay(client, fleet, spec, on_event).run(keep=keep)
