"""Commands that plan, drive, look at and end runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.cli.since import moment
from pyswiftops.client import Client
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.events import RUN_ENDED, Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan
from pyswiftops.planner.replan import parse_pairs
from pyswiftops.planner.script import write_scripts
from pyswiftops.results import RunResult
from pyswiftops.runs import ALL_JOBS
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import select

LAST_LINES = 50


def _event_line(event: Event) -> None:
    opt.emit_line(event.to_dict())


def _drive(client: Client, run_id: str, drive: Callable[..., RunResult], *, as_json: bool) -> None:
    """Drive a run to its end, and say how it ended."""
    opt.Current.folder = RunFolder(client.runs, run_id)
    result = drive(on_event=_event_line if as_json else show.print_event)
    if as_json:
        data = {"run_id": result.run_id, "folder": result.folder, "stages": result.stages}
        opt.emit_line(data)
        return
    show.out.print(show.stage_table(result.stages))
    show.out.print(f"run {result.run_id}: {result.folder}")


def _plan(client: Client, fleet: Path, run: Path, run_id: str | None) -> Plan:
    return client.plan(Fleet.load(fleet), RunSpec.load(run), run_id)


def plan(
    fleet: opt.FleetFile = opt.FLEET,
    run: opt.RunFile = opt.RUN,
    runs: opt.Runs = opt.RUNS,
    run_id: opt.RunId = None,
    script: Annotated[
        Path | None, typer.Option("--script", help="Write shell scripts into this folder.")
    ] = None,
    *,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Print every command on every node; change nothing.

    With --script write one shell script a node, with which the run can be done by hand.
    """
    made = _plan(opt.client(runs, verbose=verbose), fleet, run, run_id)
    if script is not None:
        written = write_scripts(made, script)
        if as_json:
            opt.emit({"scripts": [str(path) for path in written]})
        else:
            for path in written:
                typer.echo(str(path))
    elif as_json:
        opt.emit(made.to_dict())
    else:
        typer.echo(made.text(), nl=False)


def run(
    *,
    fleet: opt.FleetFile = opt.FLEET,
    run: opt.RunFile = opt.RUN,
    runs: opt.Runs = opt.RUNS,
    run_id: opt.RunId = None,
    first: opt.First = None,
    last: opt.Last = None,
    only: opt.Only = None,
    again: Annotated[bool, typer.Option("--again", help="Repeat what has succeeded.")] = False,
    no_preflight: opt.NoPreflight = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Run the pipeline; stages that have succeeded are not repeated."""
    stages = select(only or (), first, last)
    client = opt.client(runs, verbose=verbose)
    made = _plan(client, fleet, run, run_id)
    drive = partial(client.apply, made, stages=stages, again=again, preflight=not no_preflight)
    _drive(client, made.run_id, drive, as_json=as_json)


def resume(
    run_id: opt.Existing,
    runs: opt.Runs = opt.RUNS,
    replace: Annotated[
        list[str] | None,
        typer.Option("--replace", help="OLD=NEW: a spare takes a node's place; repeatable."),
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="A newer fleet file, for nodes to replace with."),
    ] = None,
    *,
    no_preflight: opt.NoPreflight = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Go on with a run after its last finished stage; training, from its last whole checkpoint."""
    client = opt.client(runs, verbose=verbose)
    known = None if fleet is None else Fleet.load(fleet)
    pairs = parse_pairs(replace or ())
    drive = partial(client.resume, run_id, replace=pairs, fleet=known, preflight=not no_preflight)
    _drive(client, run_id, drive, as_json=as_json)


def attach(run_id: opt.Existing, runs: opt.Runs = opt.RUNS, *, as_json: opt.AsJson = False) -> None:
    """Print a run's events from the first on, until it ends; leaving does not stop it."""
    listener, last = (_event_line if as_json else show.print_event), None
    for event in opt.client(runs).events(run_id, follow=True):
        listener(event)
        last = event
    if last is not None and last.kind is EventKind.RUN_FINISHED:
        return
    if not as_json:
        ended = last is not None and last.kind in RUN_ENDED
        what = f"ended: {last.data.get('error')}" if ended and last else "has no controller now"
        show.err.print(
            f"run {run_id} {what}\n  remedy: swiftops resume {run_id} --runs {runs}", markup=False
        )
    raise typer.Exit(EXIT_FAILED)


def status(
    run_id: opt.Existing,
    runs: opt.Runs = opt.RUNS,
    *,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Stages of a run, and its jobs as the nodes see them."""
    client = opt.client(runs, verbose=verbose)
    result = client.load(run_id)
    jobs = [job for job in client.status(run_id) if job.state != "absent"]
    if as_json:
        summary = next(item for item in client.list_runs() if item.run_id == run_id)
        state = {"state": summary.state, "driven": summary.driven}
        rows = [asdict(job) for job in jobs]
        opt.emit({"run_id": run_id, **state, "stages": result.stages, "jobs": rows})
        return
    show.out.print(show.stage_table(result.stages))
    show.out.print(show.status_table(jobs))


def stop(
    run_id: opt.Existing,
    runs: opt.Runs = opt.RUNS,
    *,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """End a run's jobs on all nodes, and the controller that drives it; prove nothing is left."""
    ended = opt.client(runs, verbose=verbose).stop(run_id)
    if as_json:
        opt.emit({"run_id": run_id, "ended": [asdict(job) for job in ended]})
        return
    for job in ended:
        typer.echo(f"stopped {job.job} on {job.node}")
    if not ended:
        typer.echo("nothing was running")


def ls(runs: opt.Runs = opt.RUNS, *, as_json: opt.AsJson = False) -> None:
    """List the runs of a folder, the oldest first."""
    found = opt.client(runs).list_runs()
    if as_json:
        opt.emit([asdict(item) for item in found])
    else:
        show.out.print(show.run_table(found))


def rm(
    run_id: opt.Existing,
    runs: opt.Runs = opt.RUNS,
    *,
    keep_nodes: Annotated[
        bool, typer.Option("--keep-nodes", help="Leave the run's files on the nodes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Remove a run: its folder here and its files on the nodes, checkpoints included."""
    client = opt.client(runs, verbose=verbose)
    client.load(run_id)
    where = "here" if keep_nodes else "here and on all nodes, checkpoints and models included"
    if not yes:
        if as_json or not show.out.is_terminal:
            raise BadInputError(
                Finding(
                    "--yes, where nobody can be asked",
                    "no --yes",
                    "--yes",
                    f"add it, if all files of run {run_id} are to be removed {where}",
                )
            )
        typer.confirm(f"Remove all files of run {run_id} {where}?", abort=True)
    client.remove(run_id, nodes=not keep_nodes)
    if as_json:
        opt.emit({"removed": run_id, "nodes": not keep_nodes})
    else:
        typer.echo(f"removed {run_id}")


def logs(
    run_id: opt.Existing,
    runs: opt.Runs = opt.RUNS,
    stage: Annotated[str | None, typer.Option(help="Only jobs whose names begin so.")] = None,
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    *,
    tail: Annotated[
        int | None, typer.Option(min=1, help="Lines of each log; 50, or with --since all.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only lines after this: 10m (ago), or 2026-07-01T12:30.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="All lines, and new ones until the jobs end.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Log lines of a run's jobs, merged over the nodes, with the node in front."""
    jobs = ALL_JOBS if stage is None else tuple(job for job in ALL_JOBS if job.startswith(stage))
    if not jobs:
        raise BadInputError(
            Finding(
                f"a job: {', '.join(ALL_JOBS)}",
                repr(stage),
                "--stage",
                "name one, or its beginning",
            )
        )
    after = None if since is None else moment(since, "--since")
    lines = opt.client(runs).logs(
        run_id,
        jobs=jobs,
        node=node,
        tail=LAST_LINES if tail is None and since is None else tail,
        since=after,
        follow=follow,
    )
    for line in lines:
        if as_json:
            opt.emit_line(asdict(line))
        else:
            typer.echo(f"{line.node} {line.job} | {line.text}")
