"""Commands on packages that nodes install from: wheelhouse make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import BadInputError, Finding
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
