"""The passport as data: ``passport.json``, made of what lies in a run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyswiftops.errors import BadInputError, Finding, RunConflictError, SwiftOpsError
from pyswiftops.events import Event, EventKind
from pyswiftops.passport.page import page
from pyswiftops.paths import RunFolder
from pyswiftops.store import RunStore, write_json

VERSION = 1
MOST_ALERTS = 200
MOST_POINTS = 400


def from_folder(folder: RunFolder) -> dict[str, Any]:
    """The passport of a run.

    Raises:
        RunNotFoundError: there is no such run.
        RunConflictError: its files cannot be read.
    """
    store = RunStore(folder)
    state = store.load()
    return make(state, store.plan().to_dict(), store.events())


def write(folder: RunFolder, to: Path | None = None) -> tuple[Path, Path]:
    """Write ``passport.json`` and ``passport.html``.

    Args:
        folder: The run.
        to: The folder to write to, made if missing; the run's own by default.

    Returns:
        The paths of both, JSON first.

    Raises:
        RunNotFoundError, RunConflictError: as :func:`from_folder`.
        BadInputError: ``to`` cannot be written.
    """
    passport = from_folder(folder)
    names = folder.passport, folder.passport_page
    paths = names if to is None else (to / names[0].name, to / names[1].name)
    try:
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
        write_json(paths[0], passport)
        paths[1].write_text(page(passport), encoding="utf-8")
    except OSError as problem:
        raise BadInputError(
            Finding(
                "a folder that can be written",
                str(problem),
                str(to or folder.root),
                "name another (--out)",
            )
        ) from None
    return paths


@contextmanager
def kept(folder: RunFolder) -> Iterator[None]:
    """Leave a passport when what drives the run ends, however it ends."""
    try:
        yield
    except RunConflictError:  # the run is another controller's
        raise
    except BaseException:
        with suppress(SwiftOpsError):  # the run's own error is what counts
            write(folder)
        raise
    with suppress(SwiftOpsError):  # a full disk makes no failure of a run that has succeeded
        write(folder)


def load(path: Path) -> dict[str, Any]:
    """Read a ``passport.json``.

    Raises:
        BadInputError: it is none, or of a later version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["passport"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        found, version = {}, f"{type(problem).__name__}: {problem}"
    if version != VERSION:
        raise BadInputError(
            Finding(
                f"a passport of version {VERSION}",
                str(version),
                str(path),
                "make it with: swiftops passport RUN",
            )
        )
    return dict(found)


def make(
    state: Mapping[str, Any], plan: Mapping[str, Any], events: Iterable[Event]
) -> dict[str, Any]:
    """The passport as data. Pure.

    Args:
        state: What ``run.json`` holds.
        plan: What ``plan.json`` holds.
        events: The run's events in order.
    """
    results = {name: item.get("result") or {} for name, item in state["stages"].items()}
    members = [node for node in plan["fleet"]["nodes"] if not node.get("spare")]
    ranks = {node["name"]: rank for rank, node in enumerate(members)}
    tools, alerts, steps = _of_events(events)
    curve = results.get("train", {}).get("curve")
    return {
        "passport": VERSION,
        "run": {
            **{key: state.get(key) for key in ("run_id", "state", "created_at", "digest")},
            "requested": list(state.get("requested") or ()),
            "tools": tools,
        },
        "fleet": plan["fleet"],
        "spec": plan["run"],
        "machines": [
            _in_order(group, ranks)
            for result in results.values()
            for group in result.get("machines") or ()
        ],
        "imports": {
            job: [_in_order(group, ranks) for group in groups]
            for result in results.values()
            for job, groups in (result.get("imports") or {}).items()
        },
        "commands": _commands(plan["jobs"]),
        "values": {
            name: value
            for result in results.values()
            for name, value in (result.get("values") or {}).items()
        },
        "files": {
            label: fingerprint
            for result in results.values()
            for label, fingerprint in (result.get("files") or {}).items()
        },
        "stages": [_stage(name, item) for name, item in state["stages"].items()],
        "loss": {
            "from": "the training log" if curve else "the run's events" if steps else "",
            "points": curve or steps,
        },
        "alerts": alerts,
        "answers": _answers(results),
    }


def _in_order(group: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Any]:
    """A group with its nodes in rank order."""
    return {**group, "nodes": sorted(group["nodes"], key=lambda node: ranks.get(node, 0))}


def _stage(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    result = item.get("result") or {}
    return {
        "stage": name,
        **{key: item.get(key) for key in ("state", "started_at", "seconds", "error")},
        **{key: result[key] for key in ("checkpoint", "resumed_from", "bytes") if key in result},
    }


def _commands(jobs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Job -> node -> argv and environment, as planned: late values in braces."""
    return {
        job: {
            node: {
                "argv": [_word(word) for word in command["argv"]],
                "env": {name: _word(word) for name, word in sorted(command["env"].items())},
                "path": list(command["path"]),
            }
            for node, command in commands.items()
        }
        for job, commands in jobs.items()
    }


def _word(word: Any) -> str:
    return word if isinstance(word, str) else "{" + word["late"] + "}" + word["after"]


def _answers(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each question with the base model's answer and the served model's."""
    before = {item["ask"]: item["answer"] for item in results.get("infer", {}).get("answers", ())}
    after = {item["ask"]: item["answer"] for item in results.get("smoke", {}).get("answers", ())}
    return [
        {"ask": ask, "before": before.get(ask), "after": after.get(ask)}
        for ask in dict.fromkeys([*before, *after])
    ]


def _of_events(
    events: Iterable[Event],
) -> tuple[dict[str, Any], list[dict[str, Any]], list[list[Any]]]:
    """Versions of the last controller, the last alerts, and points of the loss."""
    tools: dict[str, Any] = {}
    alerts: list[dict[str, Any]] = []
    steps: dict[int, list[Any]] = {}
    for event in events:
        if event.kind is EventKind.RUN_STARTED:
            tools = dict(event.data.get("tools") or {})
        elif event.kind is EventKind.ALERT:
            told = {"stage": event.stage, "node": event.node, "time": event.time}
            alerts = [*alerts[1 - MOST_ALERTS :], {**told, **event.data}]
        elif event.kind is EventKind.PROGRESS and event.data.get("loss") is not None:
            data = event.data
            steps[data["step"]] = [data[key] for key in ("step", "loss", "grad_norm", "lr")]
    points = [steps[step] for step in sorted(steps)]
    stride = -(-len(points) // MOST_POINTS) or 1
    return tools, alerts, points[::stride]
