"""``swiftops preflight``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.nodes import Nodes
from pyswiftops.preflight.finding import Severity
from pyswiftops.preflight.report import Report, checks
from pyswiftops.specs.fleet import Fleet, Runtime
from pyswiftops.specs.preflight import Check
from pyswiftops.specs.run import RunSpec

COLOURS = {Severity.BLOCK: "red", Severity.WARN: "yellow", Severity.NOTE: "dim"}


def _known_checks(incomplete: str) -> list[str]:
    return [name for name in Check if name.startswith(incomplete)]


def preflight(
    fleet: opt.FleetFile = opt.FLEET,
    run: Annotated[
        Path | None,
        typer.Option("--run", "-r", help="The run to be launched; default: the fleet alone."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only this check; repeatable.", autocompletion=_known_checks),
    ] = None,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what is safe to mend, and look again.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep this result; later ones are compared with it.")
    ] = False,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="Only: every node logs in to every other.")
    ] = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Look whether a fleet is fit before a launch; exit 1 if something stands in its way."""
    machines = Fleet.load(fleet)
    if mesh:
        _mesh(machines.everyone(), fleet, as_json=as_json, verbose=verbose)
        return
    checks(only or ())
    spec = None if run is None else RunSpec.load(run)
    report = opt.client(opt.RUNS, verbose=verbose).preflight(
        machines, spec, only=only or (), fix=fix, record=record
    )
    if as_json:
        opt.emit(report.to_dict(facts=True))
    else:
        show_report(report)
    if report.blocked:
        raise typer.Exit(EXIT_FAILED)


def show_report(report: Report) -> None:
    """Print what was found, the worst first."""
    for line in report.fixed:
        typer.echo(f"mended: {line}")
    if report.findings:
        table = show.folding("", "where", "check", "expected", "found", "remedy")
        for item in report.findings:
            word = f"[{COLOURS[item.severity]}]{item.severity.value}[/]"
            cells = (item.node or "the fleet", item.check.value, item.expected, item.found)
            table.add_row(word, *map(escape, cells), escape(item.remedy))
        show.out.print(table)
    counts = {
        severity: sum(item.severity is severity for item in report.findings)
        for severity in Severity
    }
    told = ", ".join(f"{count} {severity.value}" for severity, count in counts.items() if count)
    typer.echo(
        f"{len(report.nodes)} of {len(report.asked)} nodes looked at in {report.seconds:.1f} s: "
        f"{told or 'nothing to tell'}"
    )
    if report.recorded:
        typer.echo(f"recorded: {report.recorded}")


def _mesh(machines: Fleet, path: Path, *, as_json: bool, verbose: bool) -> None:
    if machines.runtime is Runtime.LOCAL:
        raise BadInputError(
            Finding(
                "a fleet whose nodes are reached by SSH",
                "runtime: local",
                str(path),
                "nodes of one machine need no logins",
            )
        )
    pairs = Nodes(machines, opt.ansible_output if verbose else None).pairs()
    broken = {pair: said for pair, said in pairs.items() if said}
    if as_json:
        opt.emit([{"from": one, "to": two, "error": said} for (one, two), said in pairs.items()])
    else:
        for (one, two), said in broken.items():
            typer.echo(f"{one} -> {two}: {said}")
        typer.echo(f"{len(pairs) - len(broken)} of {len(pairs)} ordered pairs log in")
    if broken:
        raise typer.Exit(EXIT_FAILED)
