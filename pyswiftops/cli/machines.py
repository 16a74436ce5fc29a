"""Commands on the machines of a fleet: exec and shell."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.specs.fleet import Fleet, Runtime


def execute(
    command: Annotated[list[str], typer.Argument(help="The command, after --.")],
    fleet: opt.FleetFile = opt.FLEET,
    *,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Run a command on every node, without a shell; exit 1 if it fails on any."""
    results = opt.client(opt.RUNS, verbose=verbose).execute(Fleet.load(fleet).everyone(), command)
    if as_json:
        opt.emit([asdict(item) for item in results])
    else:
        for item in results:
            for line in item.stdout.splitlines():
                typer.echo(f"{item.node} | {line}")
            for line in item.stderr.splitlines():
                typer.echo(f"{item.node} | {line}", err=True)
            if item.code:
                typer.echo(f"{item.node} | exit code {item.code}", err=True)
    if any(item.code != 0 for item in results):
        raise typer.Exit(EXIT_FAILED)


def shell_argv(fleet: Fleet, name: str) -> tuple[list[str], dict[str, str], str | None]:
    """How to get a shell on a node: argv, environment to add, folder to be in.

    Raises:
        BadInputError: no such node.
    """
    variables = fleet.everyone().host_vars()
    if name not in variables:
        raise BadInputError(
            Finding(f"a node: {', '.join(variables)}", repr(name), "NODE", "name one of them")
        )
    node: dict[str, Any] = variables[name]
    programs = str(Path(node["swiftops_python"]).parent)
    if fleet.runtime is Runtime.LOCAL:
        shell = os.environ.get("SHELL") or "/bin/sh"
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        root = Path(node["swiftops_root"])
        environment = {"PATH": path, "SWIFTOPS_NODE": name, "SWIFTOPS_ROOT": str(root)}
        return [shell], environment, str(root) if root.is_dir() else None
    argv = ["ssh", "-t", *shlex.split(node["ansible_ssh_args"])]
    argv += ["-p", str(node["ansible_port"])]
    if key := node.get("ansible_ssh_private_key_file"):
        argv += ["-i", key]
    argv += ["-l", node["ansible_user"], "--", node["ansible_host"]]
    return argv, {}, None


def shell(
    node: Annotated[str, typer.Argument(help="The node's name.")],
    fleet: opt.FleetFile = opt.FLEET,
    *,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the command; do not run it.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Open a shell on a node, as the fleet file says how to reach it."""
    argv, environment, folder = shell_argv(Fleet.load(fleet), node)
    if as_json:
        opt.emit({"argv": argv, "environment": environment, "folder": folder})
        return
    if only_print:
        typer.echo(shlex.join(argv))
        return
    show.err.print(f"{node}: {shlex.join(argv)}", markup=False)
    if folder is not None:
        os.chdir(folder)
    try:
        os.execvpe(argv[0], argv, {**os.environ, **environment})  # noqa: S606 no shell is meant
    except OSError as problem:
        raise BadInputError(
            Finding(f"the program {argv[0]}", str(problem), "this machine", f"install {argv[0]}")
        ) from None
