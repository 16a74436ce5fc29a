"""Commands on what nodes install: wheelhouse make, and the matrix of release lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pyswiftops import matrix as rows
from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.installed import conflicts, probe, read
from pyswiftops.specs.fleet import Fleet
from pyswiftops.wheelhouse import make_wheelhouse


def wheelhouse(
    action: Annotated[str, typer.Argument(help="make.")],
    folder: Annotated[Path, typer.Argument(help="Where to.")] = Path("wheelhouse"),
    *,
    line: Annotated[str, typer.Option(help="The ms-swift release line.")] = "4.6",
    python: Annotated[str | None, typer.Option(help="For which Python, as 3.11.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="For which platform, as manylinux_2_28_x86_64.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Bring all wheels that a node needs into a folder; once more brings what changed."""
    if action != "make":
        raise BadInputError(
            Finding("make", repr(action), "ACTION", "swiftops wheelhouse make FOLDER")
        )

    def step(text: str) -> None:
        if not as_json:
            show.err.print(text, markup=False)

    made = make_wheelhouse(folder, line=line, python=python, platform=platform, on_step=step)
    if as_json:
        told = {"folder": str(made.folder), "wheels": len(made.files), "changed": made.changed}
        opt.emit({**told, "python": made.target.python, "platform": made.target.platform})
        return
    state = "changed" if made.changed else "unchanged"
    what = f"{len(made.files)} wheels for line {line}, Python {made.target.python}"
    typer.echo(f"{what} in {made.folder}, {state}")


SHOWN = ("megatron-core", "torch", "transformers", "vllm")


def matrix(
    line: Annotated[str | None, typer.Argument(help="A release line; default: all.")] = None,
    fleet: opt.FleetFile = opt.FLEET,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Look at the nodes of a fleet; exit 1 on a conflict.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """What each release line of ms-swift needs, with the source and grade of every fact."""
    if check:
        _check(Fleet.load(fleet).everyone(), line, as_json=as_json)
        return
    known = rows.rows() if line is None else {line: rows.row(line)}
    if as_json:
        opt.emit({name: row.model_dump() for name, row in known.items()})
    elif line is None:
        show.out.print(_lines(known.values()))
    else:
        _one(known[line])


def _check(fleet: Fleet, line: str | None, *, as_json: bool) -> None:
    """What the fleet's nodes have, against the row of its line, or of another."""
    client = opt.client(opt.RUNS)
    row = rows.row(line or client.resolved(fleet).line)
    found = []
    for item in client.execute(fleet, probe(row)):
        try:
            found += conflicts(row, item.node, read(item.stdout))
        except (ValueError, KeyError):
            said = (item.stderr or item.stdout).strip()[-500:] or f"exit code {item.code}"
            found.append(Finding("a Python of the fleet file", said, item.node, "look at python:"))
    if as_json:
        opt.emit([asdict(finding) for finding in found])
    for finding in () if as_json else found:
        typer.echo(str(finding))
    if not found and not as_json:
        typer.echo(f"all {len(fleet.nodes)} nodes fit ms-swift {row.line}")
    if found:
        raise typer.Exit(EXIT_FAILED)


def _lines(known: Iterable[rows.Row]) -> Table:
    table = show.folding("line", "release", "Megatron", *SHOWN, "pipeline")
    for row in known:
        table.add_row(*map(escape, _summary(row)))
    return table


def _summary(row: rows.Row) -> list[str]:
    source = row.megatron_source
    megatron = source.branch or source.commit or source.kind
    packages = [_version(row.packages.get(name)) for name in SHOWN]
    run = "run" if row.run else "rendered"
    return [row.line, row.release, megatron, *packages, run]


def _version(package: rows.Package | None) -> str:
    return (package.pin or package.recommended or package.range) if package else ""


def _one(row: rows.Row) -> None:
    source, table = row.megatron_source, show.folding("what", "range", "best", "grade", "source")
    place = " ".join(filter(None, (source.repository, source.branch, source.commit)))
    table.add_row("Megatron-LM", escape(place or source.kind), "", source.grade, source.source)
    table.add_row("Python", escape(row.python.range), "", row.python.grade, row.python.source)
    if row.cuda:
        best = ", ".join(row.cuda.recommended)
        table.add_row("CUDA", "", best, row.cuda.grade, escape(row.cuda.source))
    for name, each in row.packages.items():
        best = each.pin or ", ".join(filter(None, [each.recommended, *each.also]))
        table.add_row(name, escape(each.range), best, each.grade, escape(each.source))
    show.out.print(table)
    for image in row.images:
        typer.echo(f"image for {image.purpose}:")
        for region, reference in image.references().items():
            typer.echo(f"  {region}: {reference}")
    for defect in row.defects:
        typer.echo(f"known: {defect.what}\n remedy: {defect.remedy}")
