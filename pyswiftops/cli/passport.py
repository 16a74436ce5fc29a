"""``swiftops passport``, ``diff`` and ``report``: what a run was, and what to hand on of it."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pyswiftops import passport as passports
from pyswiftops.cli import options as opt
from pyswiftops.doctor import examine
from pyswiftops.errors import EXIT_FAILED
from pyswiftops.passport import bundle, evidence
from pyswiftops.paths import RunFolder
from pyswiftops.redact import Redactor
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import RunStore

Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
Existing = Annotated[str, typer.Argument(help="The run's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
Side = Annotated[str, typer.Argument(help="A run's id, or a passport.json.")]

_RUNS = Path("runs")


def passport(
    run_id: Existing,
    runs: Runs = _RUNS,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: the run's folder.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write what a run was, with what, and what came of it: passport.json and passport.html."""
    folder = RunFolder(runs.resolve(), run_id)
    if as_json:
        typer.echo(json.dumps(passports.from_folder(folder), indent=1, ensure_ascii=False))
        return
    for path in passports.write(folder, out):
        typer.echo(str(path))


def diff(first: Side, second: Side, runs: Runs = _RUNS, *, as_json: AsJson = False) -> None:
    """Say what differs between two runs, the most suspicious first; exit 1 if anything does."""
    found = passports.differences(_passport(first, runs), _passport(second, runs))
    if as_json:
        typer.echo(json.dumps([item.to_dict() for item in found], indent=1, ensure_ascii=False))
    else:
        area = ""
        for item in found:
            if item.area != area:
                area = item.area
                typer.echo(area)
            typer.echo(f"  {_short(str(item))}")
        if not found:
            typer.echo("no difference")
    if found:
        raise typer.Exit(EXIT_FAILED)


def report(
    run_id: Existing,
    runs: Runs = _RUNS,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; default: RUN_ID-report.tar.gz.")
    ] = None,
    lines: Annotated[int, typer.Option(min=1, help="Last lines of each log.")] = 500,
    *,
    as_json: opt.AsJson = False,
) -> None:
    """Pack a redacted support bundle, and say what is in it and what was left out."""
    folder = RunFolder(runs.resolve(), run_id)
    RunStore(folder).load()
    fleet = Fleet.load(folder.fleet)
    texts, missing = evidence.gather(fleet, run_id, lines)
    checks = [asdict(check) for check in examine()]
    texts = {**texts, "doctor.json": json.dumps(checks, indent=1, ensure_ascii=False) + "\n"}
    hosts = [socket.gethostname(), socket.getfqdn()]
    hosts += [name for node in fleet.nodes for name in (node.name, node.address) if name]
    redactor = Redactor(hosts, [getpass.getuser(), fleet.ssh.user])
    path = output or Path(f"{run_id}-report.tar.gz")
    found = bundle.collect(folder, redactor, texts, missing)
    contents = bundle.pack(found, redactor, path)
    if as_json:
        opt.emit({"bundle": str(path), "contents": contents})
        return
    typer.echo(contents)
    typer.echo(str(path))


def _passport(side: str, runs: Path) -> dict[str, Any]:
    path = Path(side)
    if path.is_file():
        return passports.load(path)
    return passports.from_folder(RunFolder(runs.resolve(), side))


def _short(text: str, most: int = 300) -> str:
    """One line for a person; --json has the whole."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} ..."
