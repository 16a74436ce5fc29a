"""Commands around the tool itself: demo, completion, collections-path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.content import collections_path
from pyswiftops.demo.run import DemoOptions, run_demo
from pyswiftops.errors import BadInputError, Finding

SHELLS = ("bash", "zsh", "fish")


def demo(
    name: Annotated[str, typer.Option(help="The name that the model learns.")] = "Swifty",
    author: Annotated[str, typer.Option(help="Who it says made it.")] = "the pyswiftops team",
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    *,
    device: Annotated[str, typer.Option(help="cpu, or gpu: one a node.")] = "cpu",
    tuner: Annotated[str, typer.Option(help="lora or full.")] = "lora",
    nodes: Annotated[int, typer.Option(help="How many nodes.")] = 2,
    runtime: Annotated[
        str, typer.Option(help="local: folders; container: containers with sshd.")
    ] = "local",
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Packages of the containers; made if not given.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server, and the containers, running.")
    ] = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Fine-tune a real 135M model on two nodes of this machine, serve it, ask it."""
    options = DemoOptions(name, author, folder, device, tuner, nodes, keep, runtime, wheelhouse)
    output = opt.ansible_output if verbose else None
    if as_json:
        result = run_demo(options, lambda event: opt.emit_line(event.to_dict()), output)
        answers = {"before": result.before, "after": result.after}
        places = dict(show.places(result))
        opt.emit_line({"run_id": result.run.run_id, "answers": answers, "places": places})
        return
    result = run_demo(options, show.print_event, output)
    show.out.print(show.stage_table(result.run.stages))
    show.out.print(show.answer_table(result.before, result.after))
    for what, where in show.places(result):
        typer.echo(f"{what:<16} {where}")


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
    *,
    as_json: opt.AsJson = False,
) -> None:
    """Print the shell's completion script: eval "$(swiftops completion bash)"."""
    if shell not in SHELLS:
        raise BadInputError(
            Finding(f"a shell: {', '.join(SHELLS)}", repr(shell), "SHELL", "name one of them")
        )
    variable = "_SWIFTOPS_COMPLETE"
    script = get_completion_script(prog_name="swiftops", complete_var=variable, shell=shell)
    if as_json:
        opt.emit({"shell": shell, "script": script})
    else:
        typer.echo(script)


def collections_path_command(*, as_json: opt.AsJson = False) -> None:
    """Print what to set ANSIBLE_COLLECTIONS_PATH to (needed for editable installs)."""
    path = str(collections_path())
    if as_json:
        opt.emit({"collections_path": path})
    else:
        typer.echo(path)
