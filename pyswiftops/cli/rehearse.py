"""``swiftops rehearse``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pyswiftops.cli import show
from pyswiftops.client import Client
from pyswiftops.events import Event
from pyswiftops.rehearsal import Rehearsal, rehearse
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

WORDS = {True: "[green]ok[/green]", False: "[red]fails[/red]", None: "[yellow]open[/yellow]"}


def rehearse_command(
    fleet: Annotated[Path, typer.Option("--inventory", "-i", help="The fleet file.")] = Path(
        "fleet.yml"
    ),
    run: Annotated[Path, typer.Option("--run", "-r", help="The run file.")] = Path("run.yml"),
    runs: Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")] = Path(
        "runs"
    ),
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the scratch folders and the server.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Run two steps of the real thing in scratch folders; say what would fail hours later."""
    result = rehearse(
        Client(runs),
        Fleet.load(fleet),
        RunSpec.load(run),
        keep=keep,
        on_event=_nothing if as_json else show.print_event,
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    else:
        show.out.print(_steps(result))
        show.out.print(_outlook(result))
        for step in result.steps:
            if step.ok is False:
                show.err.print(f"{step.name}: {step.detail}", markup=False)
        if result.kept:
            typer.echo(f"kept: {result.kept}, and rehearsal/ in the root of every node")
    if not result.ok:
        raise typer.Exit(1)


def _nothing(_event: Event) -> None:
    """Machines get the result alone."""


def _steps(result: Rehearsal) -> Table:
    table = show.folding("step", "verdict", "wall", title="Rehearsal")
    for step in result.steps:
        seconds = "" if step.seconds is None else f"{step.seconds:.1f} s"
        word = "[dim]not reached[/dim]" if step.ok is None else WORDS[step.ok]
        table.add_row(step.name, word, seconds)
    return table


def _outlook(result: Rehearsal) -> Table:
    table = show.folding("the whole run", "verdict", "why", title="Outlook")
    for item in result.outlook:
        table.add_row(escape(item.subject), WORDS[item.ok], escape(item.detail))
    return table
