"""Commands that explain: why and doctor."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.doctor import Verdict, examine
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.explain import explain
from pyswiftops.planner.plan import make_plan
from pyswiftops.planner.reasons import why as reasons_of
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

ERROR, NETWORK = "error", "nccl"


def why(
    name: Annotated[
        str, typer.Argument(help="A flag, a variable, or one of the words 'error' and 'nccl'.")
    ],
    log: Annotated[
        Path | None, typer.Argument(help="With 'error': a log file, or - for standard input.")
    ] = None,
    fleet: opt.FleetFile = opt.FLEET,
    run: opt.RunFile = opt.RUN,
    *,
    now: Annotated[
        bool, typer.Option("--now", help="With 'nccl': ask the nodes, not what up has kept.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Say why a flag or variable has its value, what an error means, or what nodes train over."""
    if name == ERROR:
        _why_error(log, as_json=as_json)
        return
    if name == NETWORK:
        _why_network(fleet, run, now=now, as_json=as_json)
        return
    plan = make_plan(Fleet.load(fleet), RunSpec.load(run), "why")
    found = reasons_of(plan, name)
    if as_json:
        opt.emit([asdict(reason) for reason in found])
        return
    table = show.folding("job", "node", "value", "why")
    for reason in found:
        table.add_row(reason.job, reason.node, escape(reason.value), escape(reason.why))
    show.out.print(table)


def _why_network(fleet_file: Path, run_file: Path, *, now: bool, as_json: bool) -> None:
    """What every node trains over; a run file is read where there is one."""
    fleet = Fleet.load(fleet_file)
    run = RunSpec.load(run_file) if run_file != opt.RUN or run_file.exists() else None
    found = opt.client(opt.RUNS).network(fleet, run, now=now)
    if as_json:
        opt.emit(
            {
                "fabric": found.fabric,
                "addresses": found.addresses,
                "nodes": {
                    node: {name: asdict(value) for name, value in values.items()}
                    for node, values in found.nodes.items()
                },
                "remarks": [asdict(mark) for mark in found.remarks],
            }
        )
        return
    table = show.folding("node", "variable", "value", "why")
    for node, values in found.nodes.items():
        for name, value in values.items():
            table.add_row(node, name, escape(value.value), escape(value.why))
    show.out.print(table)
    for mark in found.remarks:
        typer.echo(f"\n{mark.severity.value} ({mark.code})\n{mark.finding}")


def _why_error(log: Path | None, *, as_json: bool) -> None:
    if log is None:
        raise BadInputError(
            Finding("a log file, or -", "none", "LOG", "swiftops why error train.log")
        )
    try:
        text = sys.stdin.read() if str(log) == "-" else log.read_text("utf-8", "replace")
    except OSError as problem:
        raise BadInputError(
            Finding("a log file that can be read", str(problem), str(log), "name another")
        ) from None
    found = explain(text)
    if as_json:
        opt.emit(None if found is None else asdict(found))
    elif found is None:
        typer.echo("no known error in it")
    else:
        typer.echo(found.line)
        typer.echo(str(found))
    if found is None:
        raise typer.Exit(EXIT_FAILED)


def doctor(*, as_json: opt.AsJson = False) -> None:
    """Examine the controller's own installation; exit 1 when something blocks."""
    checks = examine()
    if as_json:
        opt.emit([asdict(check) for check in checks])
    else:
        colours = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.BLOCK: "red"}
        table = show.folding("what", "verdict", "found", "remedy")
        for check in checks:
            verdict = f"[{colours[check.verdict]}]{check.verdict.value}[/]"
            table.add_row(escape(check.name), verdict, escape(check.found), escape(check.remedy))
        show.out.print(table)
    if any(check.verdict is Verdict.BLOCK for check in checks):
        raise typer.Exit(EXIT_FAILED)
