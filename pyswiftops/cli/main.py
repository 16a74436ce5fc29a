"""The command ``swiftops``. The only place that turns errors into exit codes."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

from pyswiftops import __version__
from pyswiftops.cli import passport, show
from pyswiftops.cli.notify import notify
from pyswiftops.cli.rehearse import rehearse_command
from pyswiftops.client import ALL_JOBS, ALL_STAGES, Client
from pyswiftops.content import collections_path
from pyswiftops.demo.run import DemoOptions, run_demo
from pyswiftops.errors import EXIT_INTERNAL, SwiftOpsError
from pyswiftops.planner.plan import Plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

app = typer.Typer(
    help="From bare SSH to a fine-tuned, deployed model with ms-swift and Megatron.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FleetFile = Annotated[Path, typer.Option("--inventory", "-i", help="The fleet file.")]
RunFile = Annotated[Path, typer.Option("--run", "-r", help="The run file.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
RunId = Annotated[str | None, typer.Option("--run-id", help="Default: the run's name.")]
Existing = Annotated[str, typer.Argument(help="The run's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]

_FLEET, _RUN, _RUNS = Path("fleet.yml"), Path("run.yml"), Path("runs")


def _plan(fleet: Path, run: Path, runs: Path, run_id: str | None) -> tuple[Client, Plan]:
    client = Client(runs)
    return client, client.plan(Fleet.load(fleet), RunSpec.load(run), run_id)


@app.command()
def plan(
    fleet: FleetFile = _FLEET,
    run: RunFile = _RUN,
    runs: Runs = _RUNS,
    run_id: RunId = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print every command on every node; change nothing."""
    _, made = _plan(fleet, run, runs, run_id)
    if as_json:
        typer.echo(json.dumps(made.to_dict(), indent=1, ensure_ascii=False))
    else:
        typer.echo(made.text(), nl=False)


@app.command("run")
def run_command(
    fleet: FleetFile = _FLEET,
    run: RunFile = _RUN,
    runs: Runs = _RUNS,
    run_id: RunId = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this stage; repeatable.")] = None,
    *,
    again: Annotated[bool, typer.Option("--again", help="Repeat what has succeeded.")] = False,
) -> None:
    """Run the pipeline; stages that have succeeded are not repeated."""
    client, made = _plan(fleet, run, runs, run_id)
    result = client.apply(made, stages=only or ALL_STAGES, again=again, on_event=show.print_event)
    show.out.print(show.stage_table(result.stages))
    show.out.print(f"run {result.run_id}: {result.folder}")


@app.command()
def status(run_id: Existing, runs: Runs = _RUNS, *, as_json: AsJson = False) -> None:
    """Stages of a run, and its jobs as the nodes see them."""
    client = Client(runs)
    result = client.load(run_id)
    jobs = [job for job in client.status(run_id) if job.state != "absent"]
    if as_json:
        data = {"run_id": run_id, "stages": result.stages, "jobs": [vars(job) for job in jobs]}
        typer.echo(json.dumps(data, indent=1, ensure_ascii=False))
        return
    show.out.print(show.stage_table(result.stages))
    show.out.print(show.status_table(jobs))


@app.command()
def logs(
    run_id: Existing,
    runs: Runs = _RUNS,
    stage: Annotated[str | None, typer.Option(help="Only jobs whose names begin so.")] = None,
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    tail: Annotated[int, typer.Option(min=1, help="Lines of each log.")] = 50,
) -> None:
    """Last log lines of a run's jobs, with the node in front."""
    jobs = ALL_JOBS if stage is None else [job for job in ALL_JOBS if job.startswith(stage)]
    if not jobs:
        raise typer.BadParameter(f"expected one of {', '.join(ALL_JOBS)}", param_hint="--stage")
    for job in Client(runs).status(run_id, tail=tail, jobs=jobs):
        if job.state == "absent" or node not in (None, job.node):
            continue
        for line in job.tail:
            typer.echo(f"{job.node} {job.job} | {line}")


@app.command()
def stop(run_id: Existing, runs: Runs = _RUNS) -> None:
    """End a run's jobs on all nodes, and prove that nothing of them is left."""
    ended = Client(runs).stop(run_id)
    for job in ended:
        typer.echo(f"stopped {job.job} on {job.node}")
    if not ended:
        typer.echo("nothing was running")


app.command()(passport.passport)
app.command()(passport.diff)
app.command()(passport.report)


@app.command()
def demo(
    name: Annotated[str, typer.Option(help="The name that the model learns.")] = "Swifty",
    author: Annotated[str, typer.Option(help="Who it says made it.")] = "the pyswiftops team",
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    *,
    device: Annotated[str, typer.Option(help="cpu, or gpu: one a node.")] = "cpu",
    tuner: Annotated[str, typer.Option(help="lora or full.")] = "lora",
    nodes: Annotated[int, typer.Option(help="How many logical nodes.")] = 2,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
) -> None:
    """Fine-tune a real 135M model on two logical nodes of this machine, serve it, ask it."""
    options = DemoOptions(name, author, folder, device, tuner, nodes, keep)
    result = run_demo(options, show.print_event)
    show.out.print(show.stage_table(result.run.stages))
    show.out.print(show.answer_table(result.before, result.after))
    for what, where in show.places(result):
        typer.echo(f"{what:<16} {where}")


app.command("rehearse")(rehearse_command)
app.command()(notify)


@app.command("collections-path")
def collections_path_command() -> None:
    """Print what to set ANSIBLE_COLLECTIONS_PATH to (needed for editable installs)."""
    typer.echo(str(collections_path()))


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


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 70 our own fault.

    130 after an interrupt, as shells count it.
    """
    try:
        app()  # exits by itself: 0, or 2 for a wrong option
    except SwiftOpsError as problem:
        show.err.print(f"error: {problem}", markup=False)
        sys.exit(problem.exit_code)
    except Exception as problem:  # noqa: BLE001 the last resort: say so and keep the traceback
        with tempfile.NamedTemporaryFile(
            "w", prefix="swiftops-fault-", suffix=".txt", delete=False
        ) as file:
            traceback.print_exc(file=file)
        show.err.print(
            f"internal fault: {problem!r}\n  where: {file.name}\n"
            "  remedy: please report it with that file",
            markup=False,
        )
        sys.exit(EXIT_INTERNAL)


if __name__ == "__main__":
    main()
