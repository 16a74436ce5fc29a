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
from pyswiftops.cli.start import fleet_text
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
    fleet: Annotated[
        Path | None, typer.Option(help="Write the nodes that the command names as a fleet file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="HF model for --run, if the command names none.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Read a script that starts ms-swift, execute nothing, and say it in another release line."""
    found = translated(_read(script), to, source, script)
    notes: list[Note] = []
    texts: dict[Path, str] = {}
    if run is not None:
        document, notes = run_document(_only(run, found), _run_name(run), model)
        texts[run] = run_text(document)
    if fleet is not None:
        texts[fleet] = fleet_of(_only(fleet, found))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    if as_json:
        opt.emit([{**asdict(item), "argv": item.argv(), "text": item.text()} for item in found])
        return
    for item in found:
        typer.echo(f"# line {item.line}, read as ms-swift {item.source}")
        typer.echo(item.text())
        _show([*item.notes, *(notes if run is not None else [])])
    if run is not None and fleet is None:
        show.err.print(f"written: {run}; next: swiftops init for a fleet file", markup=False)
    elif texts:
        show.err.print(f"written: {', '.join(map(str, texts))}", markup=False)


def _read(script: str) -> str:
    try:
        data = sys.stdin.buffer.read() if script == STANDARD_INPUT else Path(script).read_bytes()
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInputError(
            Finding("a readable script in UTF-8", str(problem), script, "check the path")
        ) from problem


def _only(path: Path, found: list[Translation]) -> Translation:
    """The one command, for a file that is not there yet."""
    if len(found) != 1:
        raise BadInputError(
            Finding(
                "one command", f"{len(found)} of them", "the script", f"give one, for {path.name}"
            )
        )
    if path.exists():
        raise BadInputError(
            Finding("a file that is not there yet", "one", str(path), "give another name")
        )
    return found[0]


def _run_name(path: Path) -> str:
    return path.stem if path.stem != "run" else "train"


def fleet_of(found: Translation) -> str:
    """The fleet file that a command speaks of: its launcher's addresses, or this one machine.

    Raises:
        BadInputError: it is for several nodes and names none, or another number of them.
    """
    words = {key: found.env.get(key, "") for key in ("NNODES", "NPROC_PER_NODE")}
    count, gpus = (int(word) if word.isdigit() else None for word in words.values())
    named = len(found.addresses)
    if (count or 1) > 1 and count != named:
        raise BadInputError(
            Finding(
                f"{count} addresses of nodes",
                f"{named} in the command",
                f"NNODES, line {found.line}",
                "make the fleet file with swiftops init",
            )
        )
    return fleet_text(
        runtime="host" if named else "local",
        device="gpu",
        addresses=list(found.addresses),
        nodes=1,
        gpus=gpus or 8,
        root="/data/swiftops",
        line=found.to,
    )


def _show(notes: list[Note]) -> None:
    table = show.folding("what", "flag", "now")
    for note in notes:
        table.add_row(note.kind, escape(note.flag), escape(note.text))
    if notes:
        show.err.print(table)
