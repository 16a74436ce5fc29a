"""What the command line prints of a run."""

from __future__ import annotations

import pytest
from rich.console import Console

from pyswiftops.cli import show
from pyswiftops.events import Event, EventKind


def text(event: Event) -> str:
    """An event's line without colours."""
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(show.event_line(event))
    return capture.get().strip()


def test_progress_shows_step_loss_speed_and_eta() -> None:
    data = {"step": 3, "total": 18, "loss": 1.23456, "seconds_per_step": 3.2, "remaining": 61.0}
    line = text(Event(EventKind.PROGRESS, "train", 65.0, "node-2", data))
    assert line == "1:05 train     step 3/18  loss 1.2346  3.20 s/it  ETA 1:01 (node-2)"


def test_progress_leaves_out_what_is_unknown() -> None:
    assert show.progress_text({"step": 1, "total": 2, "loss": None}) == "step 1/2"


def test_stages_start_and_end() -> None:
    assert (
        text(Event(EventKind.STAGE_STARTED, "train", 0.0, data={"what": "[x]"}))
        == "0:00 train     starts: [x]"
    )
    ended = Event(
        EventKind.STAGE_FINISHED,
        "gather",
        9.0,
        data={"seconds": 1.25, "result": {"bytes": 17_400_000}},
    )
    assert text(ended) == "0:09 gather    done in 1.2 s, 17.4 MB moved, each file verified"
    stopped = Event(EventKind.STAGE_FAILED, "infer", 1.0, data={"state": "stopped"})
    assert text(stopped) == "0:01 infer     stopped"


def test_the_measured_length_is_told_by_the_stage_that_measures_it() -> None:
    result = {"values": {"data.max_length": 40}}
    line = text(
        Event(EventKind.STAGE_FINISHED, "data", 9.0, data={"seconds": 1.0, "result": result})
    )
    assert line == "0:09 data      done in 1.0 s, max_length 40 tokens"


def test_answers_stand_side_by_side() -> None:
    console = Console(width=120, color_system=None)
    before = [{"ask": "q", "answer": "old"}]
    with console.capture() as capture:
        console.print(show.answer_table(before, [{"ask": "q", "answer": "[new]"}]))
    shown = capture.get()
    assert "old" in shown
    assert "[new]" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (3599.9, "59:59"), (3600, "1:00:00"), (100_000, "27:46:40")]
)
def test_hours_are_told_as_hours(seconds: float, shown: str) -> None:
    assert show.clock(seconds) == shown


def test_a_table_cuts_nothing() -> None:
    console = Console(width=30, color_system=None)
    rows = show.folding("what")
    rows.add_row("/a" * 40)
    with console.capture() as capture:
        console.print(rows)
    assert capture.get().count("/a") == 40
