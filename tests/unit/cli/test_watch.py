"""A frame of watch, and the loss curve."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pyswiftops.cli import show, watch
from pyswiftops.cli.plot import plot
from pyswiftops.cli.watch import View, frame, usage_text
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.store import RunStore

from .conftest import Swiftops

EVENTS = [
    Event(EventKind.RUN_STARTED, "", 0.0, time=100.0),
    Event(EventKind.STAGE_STARTED, "train", 0.0, data={"what": "x"}, time=100.0),
    Event(EventKind.NODE, "train", 1.0, "node-1", {"state": "running", "job": "train"}),
    Event(
        EventKind.USAGE,
        "train",
        1.0,
        "node-1",
        {"cpu_percent": 93.2, "memory_bytes": 1.5e9, "gpus": []},
    ),
    *(
        Event(
            EventKind.PROGRESS,
            "train",
            float(step),
            "node-2",
            {"step": step, "total": 9, "loss": 5.0 - step, "remaining": 61.0},
        )
        for step in range(1, 5)
    ),
    Event(EventKind.ALERT, "train", 5.0, "node-2", {"kind": "spike", "detail": "a [spike]"}),
]


def plan() -> Plan:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "/fleet",
        "nodes": [{"name": "node-1"}],
    }
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 1},
    }
    fleet = Fleet.from_document(document, Path("/f.yml"))
    return make_plan(fleet, RunSpec.from_document({"run": run}, Path("/r.yml")), "r")


def text(view: View, now: float = 165.0) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(frame(view, "r", now, 100))
    return capture.get()


def view(*more: Event) -> View:
    made = View()
    for event in [*EVENTS, *more]:
        made.take(event)
    return made


def test_a_frame_shows_stage_node_use_step_time_left_curve_and_alert() -> None:
    shown = text(view())
    for part in (
        "run r  running",
        "1:05",
        "CPU 93 %  1.5 GB",
        "step 4/9",
        "ETA 1:01",
        "loss 4.0000 (top) to 1.0000",
        "a [spike]",
    ):
        assert part in shown


def test_a_finished_stage_shows_how_long_it_took() -> None:
    done = Event(EventKind.STAGE_FINISHED, "train", 30.0, data={}, time=130.0)
    ended = Event(EventKind.RUN_FINISHED, "", 30.0, time=130.0)
    shown = text(view(done, ended))
    assert "run r  finished" in shown
    assert "0:30" in shown


def test_a_loss_that_is_no_number_leaves_a_gap() -> None:
    shown = text(view(Event(EventKind.PROGRESS, "train", 9.0, "n", {"step": 5, "loss": None})))
    assert "loss 4.0000" in shown


def test_use_of_gpus_is_shown() -> None:
    gpu = {"index": 0, "utilisation_percent": 98.0, "memory_used_bytes": 4e10}
    assert usage_text({"gpus": [gpu]}) == "GPU 0:  98 %  40.0 GB"


def test_q_leaves_after_other_keys_too(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, terminal = os.openpty()
    with os.fdopen(keyboard, "wb", buffering=0) as keys, os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with watch._keys() as single:
            assert single
            for typed, leaves in ((b"\x1b[A", False), (b"xq", True), (b"Q", True)):
                keys.write(typed)
                assert watch._asked_to_quit(terminal=True, seconds=60) is leaves


def test_a_dumb_terminal_gets_one_frame(
    swiftops: Swiftops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live(*_: Any) -> bool:
        raise AssertionError("a dumb terminal cannot draw over what it shows")

    monkeypatch.setattr(watch, "_live", live)
    monkeypatch.setattr(show, "out", Console(force_terminal=True, _environ={"TERM": "dumb"}))
    RunStore(RunFolder(Path("runs"), "r")).create(plan())
    done = swiftops("watch", "r")
    assert done.code == 0, done.err
    assert done.out.count("run r") == 1
    assert "\x1b" not in done.out


def rows_of(lines: list[str]) -> list[list[int]]:
    """Whether each dot is set: levels from the top, columns."""
    dots = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
    return [
        [int(bool((ord(cell) - 0x2800) & dots[side][level])) for cell in line for side in (0, 1)]
        for line in lines
        for level in range(4)
    ]


def test_a_falling_line_falls() -> None:
    dots = rows_of(plot([3, 2, 1, 0], width=2, height=1))
    assert dots == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("count", [1, 7, 40, 1000])
def test_each_column_has_one_dot_and_the_picture_its_size(count: int) -> None:
    lines = plot([float(number % 13) for number in range(count)], width=20, height=5)
    assert [len(line) for line in lines] == [20] * 5
    columns = list(zip(*rows_of(lines), strict=True))
    assert [sum(column) for column in columns] == [1] * min(count, 40) + [0] * (40 - min(count, 40))


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert plot([], 10, 2) == plot([math.nan, math.inf], 10, 2) == []
    dots = rows_of(plot([0.0, math.nan, 1.0], 2, 1))
    assert [sum(column) for column in zip(*dots, strict=True)] == [1, 0, 1, 0]


def test_once_prints_one_frame_of_a_run(swiftops: Swiftops) -> None:
    store = RunStore(RunFolder(Path("runs"), "r"))
    store.create(plan())
    for event in EVENTS:
        store.record(event)
    done = swiftops("watch", "r", "--once")
    assert done.code == 0
    assert "step 4/9" in done.out
    assert f"run r  {watch.NO_CONTROLLER}" in done.out
    with store.driving():
        assert "run r  running" in swiftops("watch", "r", "--once").out
    lines = swiftops("watch", "r", "--once", "--json").out.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [event.kind for event in EVENTS]


def test_attach_ends_with_the_run_and_tells_how(swiftops: Swiftops) -> None:
    store = RunStore(RunFolder(Path("runs"), "r"))
    store.create(plan())
    store.record(EVENTS[1])
    store.record(Event(EventKind.RUN_FAILED, "", 1.0, data={"error": "so"}))
    done = swiftops("attach", "r")
    assert done.code == 1
    assert "train     starts" in done.out
    assert "ended: so" in done.err
    store.record(Event(EventKind.RUN_FINISHED, "", 2.0, data={"seconds": 2.0}))
    assert swiftops("attach", "r").code == 0
