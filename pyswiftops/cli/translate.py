"""The command translate."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.translate import Note, Translation
from pyswiftops.translate import translate as translated
from pyswiftops.translate.run_file import run_document, run_text

STANDARD_INPUT = "-"


def translate(
    script: Annotated[str, typer.Argument(help="A script, or - for standard input.")],
    to: Annotated[str, typer.Option(help="The release line to translate to.")] = "4.6",
    *,
    source: Annotated[
        str | None, typer.Option("--from", help="The line it is of; guessed if not given.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Write the one training command as this run file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="HF model for --run, if the command names none.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Read a script that starts ms-swift, execute nothing, and say it in another release line."""
    found = translated(_read(script), to, source, script)
    notes: list[Note] = []
    if run is not None:
        notes = _write(run, found, model)
    if as_json:
        opt.emit([{**asdict(item), "argv": item.argv(), "text": item.text()} for item in found])
        return
    for item in found:
        typer.echo(f"# line {item.line}, read as ms-swift {item.source}")
        typer.echo(item.text())
        _show([*item.notes, *(notes if run is not None else [])])
    if run is not None:
        show.err.print(f"written: {run}; next: swiftops init for a fleet file", markup=False)


def _read(script: str) -> str:
    try:
        data = sys.stdin.buffer.read() if script == STANDARD_INPUT else Path(script).read_bytes()
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInputError(
            Finding("a readable script in UTF-8", str(problem), script, "check the path")
        ) from problem


def _write(path: Path, found: list[Translation], model: str | None) -> list[Note]:
    if len(found) != 1:
        raise BadInputError(
            Finding("one command", f"{len(found)} of them", "the script", "give one with --run")
        )
    if path.exists():
        raise BadInputError(
            Finding("a file that is not there yet", "one", str(path), "give another name")
        )
    document, notes = run_document(found[0], path.stem if path.stem != "run" else "train", model)
    path.write_text(run_text(document), encoding="utf-8")
    return notes


def _show(notes: list[Note]) -> None:
    table = show.folding("what", "flag", "now")
    for note in notes:
        table.add_row(note.kind, escape(note.flag), escape(note.text))
    if notes:
        show.err.print(table)
