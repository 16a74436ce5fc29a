"""``swiftops notify``."""

from __future__ import annotations

from typing import Annotated

import typer

from pyswiftops.cli import options as opt
from pyswiftops.errors import BadInputError, Finding, SwiftOpsError
from pyswiftops.notify import check, try_out
from pyswiftops.specs.run import RunSpec


def notify(
    run: opt.RunFile = opt.RUN,
    *,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Check the receivers of run.notify, and send each a test message if asked."""
    spec = RunSpec.load(run)
    if not spec.notify:
        raise BadInputError(
            Finding("receivers", "none", f"{run}: run.notify", "see docs/how-to/notifications.md")
        )
    findings = check(spec.notify)
    if findings:
        raise BadInputError(findings)
    if not test and as_json:
        opt.emit({"receivers": len(spec.notify), "sent": None})
        return
    if not test:
        typer.echo(f"{len(spec.notify)} receivers can be used; --test sends each a message")
        return
    outcomes = try_out(spec.notify, spec.name, "this machine")
    if as_json:
        opt.emit({"receivers": len(spec.notify), "sent": outcomes})
    for told in [] if as_json else outcomes:
        said = "sent" if told["ok"] else f"not sent: {told['error']}"
        typer.echo(f"{told['channel']:<10} {said} (tries: {told['tries']})")
    if not all(told["ok"] for told in outcomes):
        raise SwiftOpsError("not every receiver took the message")
