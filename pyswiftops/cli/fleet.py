"""Commands that make and take down nodes: up and down."""

from __future__ import annotations

from typing import Annotated

import typer

from pyswiftops import provision
from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import ProvisionError
from pyswiftops.specs.fleet import Fleet

AskPass = Annotated[
    bool, typer.Option("--ask-pass", "-k", help="Ask for the login password of hosts.")
]
AskBecomePass = Annotated[
    bool, typer.Option("--ask-become-pass", "-K", help="Ask for the sudo password of hosts.")
]


def _passwords(*, login: bool, become: bool) -> provision.Passwords:
    def ask(what: str) -> str:
        answer: str = typer.prompt(f"{what} of the hosts", hide_input=True, err=True)
        return answer

    return provision.Passwords(
        login=ask("login password") if login else "",
        become=ask("sudo password") if become else "",
    )


def up(
    fleet: opt.FleetFile = opt.FLEET,
    *,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Make every node ready: containers, sshd, keys, pdsh; what is ready stays untouched."""
    machines = Fleet.load(fleet)
    passwords = _passwords(login=ask_pass, become=ask_become_pass)
    try:
        done = provision.up(
            machines,
            passwords=passwords,
            on_phase=_quiet if as_json else _phase,
            on_output=opt.ansible_output if verbose else None,
        )
    except ProvisionError as problem:
        _tell_states(problem.changed, problem.failures, as_json=as_json)
        raise
    _tell(done, as_json=as_json)


def down(
    fleet: opt.FleetFile = opt.FLEET,
    *,
    data: Annotated[
        bool, typer.Option("--data", help="Also the nodes' roots: models, checkpoints, logs.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Even under a living job.")] = False,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Take away what up made; mounted folders of hosts are never touched."""
    machines = Fleet.load(fleet)
    done = provision.down(
        machines,
        data=data,
        force=force,
        passwords=_passwords(login=ask_pass, become=ask_become_pass),
        on_phase=_quiet if as_json else _phase,
        on_output=opt.ansible_output if verbose else None,
    )
    _tell(done, as_json=as_json)


def _phase(name: str) -> None:
    show.err.print(name, markup=False)


def _quiet(_name: str) -> None:
    pass


def _tell(done: provision.Provisioned, *, as_json: bool) -> None:
    if as_json:
        opt.emit({"changed": done.changed, "seconds": round(done.seconds, 1)})
        return
    _tell_states(done.changed, {}, as_json=False)
    count = sum(done.changed.values())
    typer.echo(f"{count or 'nothing'} changed in {show.clock(done.seconds)}")


def _tell_states(changed: dict[str, int], failures: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        return
    for name in dict.fromkeys([*changed, *failures]):
        state = "failed" if name in failures else "changed" if changed[name] else "ready"
        typer.echo(f"{name:<16} {state}")
