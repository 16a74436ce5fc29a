"""The command ``swiftops``. The only place that turns errors into exit codes."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from pyswiftops import __version__
from pyswiftops.cli import (
    checkpoints,
    fabric,
    fleet,
    machines,
    packages,
    passport,
    runs,
    show,
    solve,
    start,
    tools,
    translate,
    watch,
    why,
)
from pyswiftops.cli.notify import notify
from pyswiftops.cli.options import Current
from pyswiftops.cli.preflight import preflight
from pyswiftops.cli.rehearse import rehearse_command
from pyswiftops.errors import EXIT_BAD_INPUT, EXIT_INTERNAL, BadInputError, SwiftOpsError

EXIT_INTERRUPTED = 130
# typer exports only this kind of it
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    help="From bare SSH to a fine-tuned, deployed model with ms-swift and Megatron.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In the order of their use.
app.command()(start.init)
app.command()(start.schema)
app.command()(why.doctor)
app.command()(packages.wheelhouse)
app.command()(packages.matrix)
app.command()(solve.solve)
app.command()(translate.translate)
app.command()(fleet.up)
app.command()(fleet.down)
app.command()(runs.plan)
app.command()(why.why)
app.command("rehearse")(rehearse_command)
app.command()(runs.run)
app.command()(runs.resume)
app.command()(runs.attach)
app.command()(watch.watch)
app.command()(runs.status)
app.command()(runs.logs)
app.command()(runs.stop)
app.command()(runs.ls)
app.command()(runs.rm)
app.add_typer(checkpoints.app, name="ckpt")
app.command()(passport.passport)
app.command()(passport.diff)
app.command()(passport.report)
app.command()(notify)
app.command()(preflight)
app.command()(fabric.check_fabric)
app.command("exec", context_settings=PASS_ON)(machines.execute)
app.command()(machines.shell)
app.command()(tools.demo)
app.command()(tools.completion)
app.command("collections-path")(tools.collections_path_command)


def commands() -> dict[str, Any]:
    """Name -> click command; those of a group by both names."""
    found: dict[str, Any] = {}
    for name, item in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(item, "commands", None)
        found |= {name: item} if inner is None else {f"{name} {one}": inner[one] for one in inner}
    return found


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"swiftops {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Options before the command."""


def _wants_json() -> bool:
    """Whether JSON was asked for; what stands after ``--`` is another program's."""
    words = sys.argv[1:]
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def _tell(problem: Exception, message: str, code: int) -> None:
    """An error on standard error: a sentence, or one JSON document where JSON was asked for."""
    if not _wants_json():
        show.err.print(message, markup=False)
        return
    findings = problem.findings if isinstance(problem, BadInputError) else ()
    data = {
        "error": type(problem).__name__,
        "message": message,
        "findings": [vars(finding) for finding in findings],
        "exit_code": code,
    }
    sys.stderr.write(json.dumps(data, ensure_ascii=False) + "\n")


def _keep_traceback() -> Path:
    """Write the traceback into the run's folder, or where there is none into a temporary file."""
    folder = Current.folder
    if folder is not None and folder.root.is_dir():
        folder.fault.write_text(traceback.format_exc(), encoding="utf-8")
        return folder.fault
    with tempfile.NamedTemporaryFile(
        "w", prefix="swiftops-fault-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exc(file=file)
    return Path(file.name)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 70 our own fault.

    130 after an interrupt, as shells count it.
    """
    try:
        # typer itself tells of a wrong option, and exits, unless that must be JSON too
        sys.exit(app(standalone_mode=not _wants_json()) or 0)
    except SwiftOpsError as problem:
        said = str(problem) if _wants_json() else f"error: {problem}"
        _tell(problem, said, problem.exit_code)
        sys.exit(problem.exit_code)
    except USAGE_ERROR as problem:
        _tell(problem, str(problem), EXIT_BAD_INPUT)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        show.err.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as problem:  # noqa: BLE001 the last resort: say so and keep the traceback
        where = _keep_traceback()
        said = (
            f"internal fault: {problem!r}\n  where: {where}\n"
            "  remedy: please report it with that file"
        )
        _tell(problem, said, EXIT_INTERNAL)
        sys.exit(EXIT_INTERNAL)


if __name__ == "__main__":
    main()
