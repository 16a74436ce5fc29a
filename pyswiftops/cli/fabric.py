"""``swiftops check-fabric``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.fabric.picture import shades, svg
from pyswiftops.fabric.plan import Options
from pyswiftops.fabric.report import FabricReport, latencies, matrix, sizes_table
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

WIDE = 12  # nodes whose matrix of numbers fits a terminal


def check_fabric(
    fleet: opt.FleetFile = opt.FLEET,
    *,
    run: Annotated[
        Path | None, typer.Option("--run", "-r", help="A run file, for its training.env.")
    ] = None,
    nodes: Annotated[str, typer.Option(help="Only these nodes, with commas.")] = "",
    sizes: Annotated[str, typer.Option(help="Message sizes, with commas: 64K,1M,64M.")] = "",
    pairs: Annotated[
        str, typer.Option(help="all, few (by bisection), or auto: all up to 32 nodes.")
    ] = "auto",
    least: Annotated[float, typer.Option(help="GB/s that every link must reach.")] = 0.0,
    gpudirect: Annotated[
        bool, typer.Option(help="Whether RDMA without GPUDirect is a fault.")
    ] = True,
    timeout: Annotated[float, typer.Option(help="Seconds that a round may take.")] = 30.0,
    picture: Annotated[
        Path | None, typer.Option(help="Write the heat map of all pairs there, SVG.")
    ] = None,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Measure the network between the nodes; name what is slow or broken, exit 1 then."""
    if picture is not None and not picture.resolve().parent.is_dir():
        raise BadInputError(
            Finding("a folder that is there", str(picture), "--picture", "make the folder first")
        )
    options = Options(
        sizes=_words(sizes),
        pairs=pairs,
        least=least,
        gpudirect=gpudirect,
        seconds=timeout,
        env=dict(RunSpec.load(run).training.env) if run else None,
    )
    report = opt.client(opt.RUNS, verbose=verbose).check_fabric(
        Fleet.load(fleet),
        nodes=_words(nodes),
        options=options,
        tell=lambda line: show.err.print(line, markup=False),
    )
    told = report.readings
    if picture is not None:
        picture.write_text(svg(told.nodes, told.links, f"{told.backend}, all pairs"), "utf-8")
    if as_json:
        opt.emit(report.to_dict())
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def show_report(report: FabricReport) -> None:
    """Print tables, latencies and what is wrong."""
    told = report.readings
    for item in told.sums[:1]:
        names = f"{len(item.nodes)} nodes, {item.ranks} ranks"
        table = show.folding(
            "size", "time us", "algbw GB/s", "busbw GB/s",
            title=f"All-reduce of {names}, {told.backend}",
        )  # fmt: skip
        for row in sizes_table(item):
            table.add_row(*row)
        show.out.print(table)
    if len(told.nodes) <= WIDE:
        show.out.print(_matrix(report))
    else:
        lines = zip(told.nodes, shades(told.nodes, told.links), strict=True)
        for node, line in lines:
            typer.echo(f"{node:>16} {line}")
    typer.echo(f"latency, least / median / largest: {latencies(told.links)}")
    for fault in report.faults:
        show.out.print(f"[red]{fault.kind}[/red] {escape(fault.where)}: {escape(fault.found)}")
        typer.echo(f"  expected: {fault.expected}\n  remedy: {fault.remedy}")
    verdict = "nothing is slow or broken" if report.ok else f"{len(report.faults)} found"
    typer.echo(f"{verdict} ({report.seconds:.0f} s)")


def _matrix(report: FabricReport) -> Table:
    told = report.readings
    table = show.folding("GB/s from, to", *told.nodes, title="Pairs")
    for row in matrix(told.nodes, told.links):
        table.add_row(*(f"[red]{cell}[/red]" if cell == "broken" else cell for cell in row))
    return table
