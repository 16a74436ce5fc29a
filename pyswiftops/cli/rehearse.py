"""``swiftops rehearse``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.events import Event
from pyswiftops.rehearsal import Rehearsal, rehearse
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

WORDS = {True: "[green]ok[/green]", False: "[red]fails[/red]", None: "[yellow]open[/yellow]"}


def rehearse_command(
    fleet: opt.FleetFile = opt.FLEET,
    run: opt.RunFile = opt.RUN,
    runs: opt.Runs = opt.RUNS,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the scratch folders and the server.")
    ] = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Run two steps of the real thing in scratch folders; say what would fail hours later."""
    result = rehearse(
        opt.client(runs, verbose=verbose),
        Fleet.load(fleet),
        RunSpec.load(run),
        keep=keep,
        on_event=_nothing if as_json else show.print_event,
    )
    if as_json:
        opt.emit(result.to_dict())
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
