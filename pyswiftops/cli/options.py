"""Options and arguments that commands share, and how a command prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pyswiftops.client import Client
from pyswiftops.paths import RunFolder
from pyswiftops.stages.catalog import CATALOG

FLEET, RUN, RUNS = Path("fleet.yml"), Path("run.yml"), Path("runs")


def _known_runs(context: typer.Context, incomplete: str) -> list[str]:
    folder = context.params.get("runs") or RUNS
    return sorted(
        path.parent.name
        for path in Path(folder).glob("*/run.json")
        if path.parent.name.startswith(incomplete)
    )


def _known_stages(incomplete: str) -> list[str]:
    return [name for name in CATALOG if name.startswith(incomplete)]


FleetFile = Annotated[Path, typer.Option("--inventory", "-i", help="The fleet file.")]
RunFile = Annotated[Path, typer.Option("--run", "-r", help="The run file.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
RunId = Annotated[str | None, typer.Option("--run-id", help="Default: the run's name.")]
Existing = Annotated[str, typer.Argument(help="The run's id.", autocompletion=_known_runs)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show what ansible-playbook prints.")
]
NoPreflight = Annotated[
    bool, typer.Option("--no-preflight", help="Do not look at the nodes before.")
]
First = Annotated[
    str | None,
    typer.Option("--from", help="From this stage on.", autocompletion=_known_stages),
]
Last = Annotated[
    str | None,
    typer.Option("--to", help="Up to and with this stage.", autocompletion=_known_stages),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only this stage; repeatable.", autocompletion=_known_stages),
]


class Current:
    """The run that this process drives; a fault's traceback goes into its folder."""

    folder: RunFolder | None = None


def client(runs: Path, *, verbose: bool = False) -> Client:
    """A client that is quiet unless ``verbose``."""
    return Client(runs, on_output=ansible_output if verbose else None)


def ansible_output(text: str) -> None:
    """Show what ansible-playbook prints, beside a command's own output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def emit(data: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str))


def emit_line(data: Any) -> None:
    """Print one line of a stream of JSON documents."""
    typer.echo(json.dumps(data, ensure_ascii=False, default=str))
    sys.stdout.flush()
