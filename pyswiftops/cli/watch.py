"""``swiftops watch``: a run as it goes, live in the terminal."""

from __future__ import annotations

import os
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.cli.plot import plot
from pyswiftops.events import RUN_ENDED, Event, EventKind

FRAMES_A_SECOND = 4
CURVE_LINES = 8
NO_CONTROLLER = "no controller drives it now"
MOST_ALERTS = 5


@dataclass
class View:
    """What a frame shows, built out of events.

    Attributes:
        stages: stage -> its last event's kind and seconds.
        nodes: node -> what is known of it: state, usage.
        losses: Loss of each logged step.
        progress: The last step, or nothing yet.
        alerts: The last ones.
        ended: How the run ended, that no controller drives it, or "".
    """

    stages: dict[str, tuple[EventKind, float]] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    ended: str = ""

    def take(self, event: Event) -> None:
        """Take an event in."""
        data = event.data
        if event.kind is EventKind.RUN_STARTED:
            self.ended = ""
        elif event.kind in RUN_ENDED:
            self.ended = event.kind.value.removeprefix("run_")
        elif event.kind is EventKind.STAGE_STARTED:
            self.stages[event.stage] = (event.kind, event.time)
        elif event.kind in {EventKind.STAGE_FINISHED, EventKind.STAGE_FAILED}:
            begun = self.stages.get(event.stage, (event.kind, event.time))[1]
            self.stages[event.stage] = (event.kind, event.time - begun)
        elif event.kind is EventKind.PROGRESS:
            self.progress = data
            loss = data.get("loss")
            self.losses[int(data["step"])] = float("nan") if loss is None else float(loss)
        elif event.kind is EventKind.NODE:
            node = self.nodes.setdefault(event.node, {})
            node.update(state=data.get("state"), job=data.get("job"), detail=data.get("detail"))
        elif event.kind is EventKind.USAGE:
            self.nodes.setdefault(event.node, {})["usage"] = data
        elif event.kind is EventKind.ALERT:
            self.alerts = [*self.alerts, f"{event.node}: {data.get('detail')}"][-MOST_ALERTS:]


def usage_text(usage: Mapping[str, Any]) -> str:
    """``CPU 93 %  1.2 GB  GPU 0: 98 %  40.1 GB``; what is unknown is left out."""
    parts = []
    if usage.get("cpu_percent") is not None:
        parts.append(f"CPU {usage['cpu_percent']:.0f} %")
    if usage.get("memory_bytes") is not None:
        parts.append(f"{usage['memory_bytes'] / 1e9:.1f} GB")
    for gpu in usage.get("gpus") or ():
        parts.append(f"GPU {gpu.get('index')}:")
        if gpu.get("utilisation_percent") is not None:
            parts.append(f"{gpu['utilisation_percent']:.0f} %")
        if gpu.get("memory_used_bytes") is not None:
            parts.append(f"{gpu['memory_used_bytes'] / 1e9:.1f} GB")
    return "  ".join(parts)


def _stages(view: View, now: float) -> Table:
    table = Table("stage", "state", "time", box=None, padding=(0, 2, 0, 0))
    words = {
        EventKind.STAGE_STARTED: "[cyan]running[/]",
        EventKind.STAGE_FINISHED: "[green]done[/]",
        EventKind.STAGE_FAILED: "[red]failed[/]",
    }
    for name, (kind, value) in view.stages.items():
        seconds = now - value if kind is EventKind.STAGE_STARTED else value
        table.add_row(name, words[kind], show.clock(max(0.0, seconds)))
    return table


def _nodes(view: View) -> Table:
    table = Table("node", "job", "state", "use", box=None, padding=(0, 2, 0, 0))
    for name, node in sorted(view.nodes.items()):
        usage = usage_text(node.get("usage") or {})
        table.add_row(name, str(node.get("job") or ""), str(node.get("state") or ""), usage)
    return table


def frame(view: View, run_id: str, now: float, width: int) -> RenderableType:
    """One frame.

    Args:
        view: What is known.
        run_id: The run's id.
        now: Seconds since the epoch.
        width: Characters of the terminal.
    """
    parts: list[RenderableType] = [
        Text(f"run {run_id}  {view.ended or 'running'}", style="bold"),
        _stages(view, now),
    ]
    if view.nodes:
        parts += [Text(""), _nodes(view)]
    if view.progress:
        parts += [Text(""), Text(show.progress_text(view.progress))]
    losses = [view.losses[step] for step in sorted(view.losses)]
    curve = plot(losses, min(max(width - 2, 10), 100), CURVE_LINES)
    if curve:
        finite = [loss for loss in losses if loss == loss]  # noqa: PLR0124 not NaN
        parts.append(Text(f"loss {max(finite):.4f} (top) to {min(finite):.4f} (bottom)"))
        parts += [Text(line, style="cyan") for line in curve]
    parts += [Text.from_markup(f"[yellow]{escape(alert)}[/]") for alert in view.alerts]
    return Group(*parts)


@contextmanager
def _keys() -> Iterator[bool]:
    """Single keys instead of lines, where standard input is a terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _asked_to_quit(*, terminal: bool, seconds: float) -> bool:
    if not terminal:
        time.sleep(seconds)
        return False
    keys = sys.stdin.fileno()
    ready, _, _ = select.select([keys], [], [], seconds)
    # all that was typed, past Python's buffer: select does not see what is kept there
    return bool(ready) and b"q" in os.read(keys, 1024).lower()


def watch(
    run_id: opt.Existing,
    runs: opt.Runs = opt.RUNS,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Watch a run: stages, nodes, loss curve, time left. q or Ctrl-C leaves; the run goes on.

    With --json it prints the run's events as JSON lines, as attach does.
    """
    client, view = opt.client(runs), View()
    if as_json:
        for event in client.events(run_id, follow=not once):
            opt.emit_line(event.to_dict())
        return
    if once or not show.out.is_terminal or show.out.is_dumb_terminal:
        driven = any(run.run_id == run_id and run.driven for run in client.list_runs())
        for event in client.events(run_id):
            view.take(event)
        view.ended = view.ended or ("" if driven else NO_CONTROLLER)
        show.out.print(frame(view, run_id, time.time(), show.out.width))
        return
    if _live(client.events(run_id, follow=True), run_id):
        typer.echo(f"left; the run goes on (swiftops watch {run_id}, swiftops stop {run_id})")


def _live(events: Iterator[Event], run_id: str) -> bool:
    """Show frames until the run ends; True if somebody left before that."""
    view, news = View(), queue.SimpleQueue[Event | None]()

    def read() -> None:
        for event in events:
            news.put(event)
        news.put(None)

    threading.Thread(target=read, daemon=True).start()
    pause = 1 / FRAMES_A_SECOND
    try:
        with _keys() as terminal, Live(console=show.out, refresh_per_second=8) as live:
            over = False
            while not over:
                while not news.empty():
                    event = news.get()
                    over = over or event is None
                    if event is not None:
                        view.take(event)
                if over:
                    view.ended = view.ended or NO_CONTROLLER
                live.update(frame(view, run_id, time.time(), show.out.width))
                if not over and _asked_to_quit(terminal=terminal, seconds=pause):
                    return True
    except KeyboardInterrupt:
        return True
    return False
