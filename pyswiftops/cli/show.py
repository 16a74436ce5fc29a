"""What the command line prints: events as they come, tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyswiftops.demo.run import DemoResult
from pyswiftops.events import Event, EventKind
from pyswiftops.results import JobStatus, RunSummary

# Off a terminal nothing is wrapped or cut: another program reads it, or a file keeps it.
UNBOUND = 10_000
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBOUND)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Seconds as m:ss, from an hour on as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 minutes of an hour
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def event_line(event: Event) -> str:
    """One event as one line of rich markup."""
    head = f"[dim]{clock(event.at)}[/dim] {event.stage:<9}"
    data = event.data
    if event.kind is EventKind.STAGE_STARTED:
        return f"{head} [cyan]starts[/cyan]: {escape(str(data['what']))}"
    if event.kind is EventKind.PROGRESS:
        return f"{head} {escape(progress_text(data))} [dim]({event.node})[/dim]"
    if event.kind is EventKind.STAGE_FAILED:
        return f"{head} [red]{data.get('state', 'failed')}[/red]"
    if event.kind in {EventKind.CONTINUED, EventKind.REPLACED, EventKind.RETRY}:
        return f"{head} [cyan]{escape(str(data['detail']))}[/cyan]"
    if event.kind in {EventKind.ALERT, EventKind.PREFLIGHT}:
        where = event.node or "all nodes"
        return f"{head} [yellow]{escape(str(data['detail']))}[/yellow] [dim]({where})[/dim]"
    note = outcome_text(event.stage, data.get("result", {}))
    return f"{head} [green]done[/green] in {data['seconds']:.1f} s{escape(note)}"


def progress_text(data: Mapping[str, Any]) -> str:
    """``step 3/20 loss 1.234 4.1 s/it ETA 1:10``; what is unknown is left out."""
    parts = [f"step {data.get('step')}/{data.get('total')}"]
    if data.get("loss") is not None:
        parts.append(f"loss {data['loss']:.4f}")
    if data.get("seconds_per_step") is not None:
        parts.append(f"{data['seconds_per_step']:.2f} s/it")
    if data.get("remaining") is not None:
        parts.append(f"ETA {clock(data['remaining'])}")
    return "  ".join(parts)


def outcome_text(stage: str, outcome: Mapping[str, Any]) -> str:
    """The line's end for a finished stage."""
    if stage == "data" and "values" in outcome:
        return f", max_length {outcome['values']['data.max_length']} tokens"
    if "bytes" in outcome:
        return f", {outcome['bytes'] / 1e6:.1f} MB moved, each file verified"
    return ""


SHOWN = frozenset(
    {
        EventKind.STAGE_STARTED,
        EventKind.PROGRESS,
        EventKind.STAGE_FINISHED,
        EventKind.STAGE_FAILED,
        EventKind.ALERT,
        EventKind.CONTINUED,
        EventKind.REPLACED,
        EventKind.RETRY,
        EventKind.PREFLIGHT,
    }
)


def print_event(event: Event) -> None:
    """Print an event that a person who looks on wants to see."""
    if event.kind in SHOWN:
        out.print(event_line(event))


def folding(*columns: str, **options: Any) -> Table:
    """A table that folds what is too wide for the terminal, and cuts nothing."""
    made = Table(**options)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def stage_table(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """Stages with state and wall time."""
    table = folding("stage", "state", "wall", title="Stages")
    for name, item in stages.items():
        seconds = item.get("seconds")
        table.add_row(name, str(item["state"]), "" if seconds is None else f"{seconds:.1f} s")
    return table


def age(seconds: float) -> str:
    """A length of time in the largest unit that fits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def run_table(runs: Iterable[RunSummary]) -> Table:
    """Runs with their state, how far they are, and whether somebody drives them."""
    table = folding("run", "state", "stages", "driven", "fleet", "age")
    for run in runs:
        done = sum(state == "succeeded" for state in run.stages.values())
        old = age(time.time() - run.created_at) if run.created_at else ""
        driven = "yes" if run.driven else ""
        stages = f"{done} of {len(run.stages)} begun"
        table.add_row(escape(run.run_id), run.state, stages, driven, escape(run.fleet), old)
    return table


def answer_table(before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> Table:
    """Answers before and after training, question by question."""
    table = folding("question", "before", "after", title="Answers", show_lines=True)
    known = {item["ask"]: item["answer"] for item in before}
    for item in after:
        cells = (item["ask"], known.get(item["ask"], ""), item["answer"])
        table.add_row(*(escape(str(cell).strip()) for cell in cells))
    return table


def status_table(jobs: Iterable[JobStatus]) -> Table:
    """Jobs as their nodes see them."""
    table = folding("job", "node", "state", "detail")
    for job in jobs:
        table.add_row(job.job, job.node, job.state, escape(job.detail))
    return table


def places(result: DemoResult) -> list[tuple[str, str]]:
    """Where everything of a demo lies."""
    files = result.files
    found = [
        ("base model", str(files.model)),
        ("training rows", str(files.rows)),
        ("fleet, run file", f"{files.fleet}, {files.run}"),
    ]
    if result.root:
        run = f"{result.root}/runs/{result.run.run_id}"
        found += [
            ("checkpoint", str(result.run.stages["gather"]["result"]["checkpoint"])),
            ("trained model", f"{run}/export"),
            ("logs on nodes", f"{run}/jobs/<job>/log"),
        ]
    found.append(("run", str(result.run.folder / "run.json")))
    if result.url:
        found.append(("endpoint", f"{result.url} (stop it: {stop_command(result)})"))
    if result.url and result.made:
        program = Path(sys.executable).with_name("swiftops")
        found += [
            ("a node's shell", f"{program} shell node-1 -i {files.fleet}"),
            ("to take it down", f"{program} down -i {files.fleet} --data"),
        ]
    return found


def stop_command(result: DemoResult) -> str:
    """The command that stops the demo's server."""
    program = Path(sys.executable).with_name("swiftops")
    return f"{program} stop {result.run.run_id} --runs {result.files.runs}"
