"""``swiftops ckpt``: checkpoints over all nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pyswiftops.checkpoints import adopted
from pyswiftops.checkpoints.ledger import Checkpoint, Ledger
from pyswiftops.checkpoints.retention import Keep
from pyswiftops.checkpoints.shelf import PrunePlan
from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import EXIT_FAILED, BadInputError, Finding
from pyswiftops.planner.gathering import Options
from pyswiftops.specs.fleet import Fleet

_PART = re.compile(r"[^-_.]+[-_.]?|[-_.]")

app = typer.Typer(
    help="Checkpoints over all nodes: what there is, what may go.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _names(context: typer.Context, incomplete: str) -> list[str]:
    runs = Path(context.params.get("runs") or opt.RUNS)
    return [name for name in adopted.known(runs) if name.startswith(incomplete)]


Name = Annotated[
    str, typer.Argument(help="A run's id, or a name from ckpt adopt.", autocompletion=_names)
]


@app.command()
def ls(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="A run's id, or a name from ckpt adopt; all.", autocompletion=_names
        ),
    ] = None,
    runs: opt.Runs = opt.RUNS,
    *,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """List checkpoints over all nodes; exit 1 where a node did not answer."""
    checkpoints = opt.client(runs, verbose=verbose).checkpoints
    names = checkpoints.names() if name is None else [name]
    found = [checkpoints.ls(item) for item in names]
    if as_json:
        opt.emit([ledger.to_dict() for ledger in found])
    else:
        for ledger in found:
            print_ledger(ledger)
    if any(ledger.silent for ledger in found):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def adopt(
    name: Annotated[str, typer.Argument(help="What the folders are to be called.")],
    places: Annotated[list[str], typer.Argument(help="NODE:/FOLDER, one or more.")],
    fleet: opt.FleetFile = opt.FLEET,
    runs: opt.Runs = opt.RUNS,
    *,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Keep folders of checkpoints that no run here made under a name, for ckpt ls and the rest."""
    machines = Fleet.load(fleet)
    ledger = opt.client(runs, verbose=verbose).checkpoints.adopt(name, machines, places)
    if as_json:
        opt.emit(ledger.to_dict())
    else:
        print_ledger(ledger)


@app.command()
def gather(
    name: Name,
    checkpoint: Annotated[
        str, typer.Argument(help="As ckpt ls names it; the newest without.")
    ] = "",
    runs: opt.Runs = opt.RUNS,
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="NODE or controller, also with :/FOLDER, which becomes the checkpoint; "
            "the first node without.",
        ),
    ] = "",
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Without optimizer and random generators.")
    ] = False,
    rate: Annotated[
        float, typer.Option(min=0, help="Megabytes a second of each node at most.")
    ] = 0,
    check: Annotated[
        bool,
        typer.Option("--check", help="Bring all bytes again, even where sizes and times agree."),
    ] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Write through to the disk before it gets its name.")
    ] = False,
    any_time: Annotated[
        bool, typer.Option("--any-time", help="Take shards whatever their times.")
    ] = False,
    delete_sources: Annotated[
        bool,
        typer.Option(
            "--delete-sources",
            help="Remove it elsewhere, once it can be resumed and exported from there.",
        ),
    ] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be brought; change nothing.")
    ] = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Bring a checkpoint from all nodes to one place, proven and whole."""
    done = opt.client(runs, verbose=verbose).checkpoints.gather(
        name,
        checkpoint,
        to=to,
        options=Options(
            weights_only=weights_only,
            rate=int(rate * 1e6),
            check=check,
            sync=sync,
            any_time=any_time,
        ),
        only_plan=only_plan,
        delete_sources=delete_sources,
        tell=lambda line: None if as_json else show.err.print(line, markup=False),
    )
    if as_json:
        opt.emit(done.to_dict())
        return
    for line in done.plan:
        typer.echo(line)
    if not only_plan:
        typer.echo(
            f"gathered {done.name}: {size_text(done.moved)} of {size_text(done.bytes)} were sent "
            f"in {done.seconds:.1f} s"
        )
    for node, folders in done.removed.items():
        for folder in folders:
            typer.echo(f"removed {node}:{folder}")


@app.command()
def prune(
    name: Name,
    runs: opt.Runs = opt.RUNS,
    *,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", help="Keep the newest complete ones, so many.")
    ] = None,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Keep the best one, by the training's log.")
    ] = False,
    keep_every: Annotated[
        int | None, typer.Option("--keep-every", help="Keep iterations that it divides.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove; else only say what.")] = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Remove old checkpoints of a training on all nodes; without --yes only say which, and why."""
    if keep_last is None and keep_every is None and not keep_best:
        raise BadInputError(
            Finding("what is to be kept", "nothing", "ckpt prune", "for instance --keep-last 2")
        )
    keep = Keep(1 if keep_last is None else keep_last, best=keep_best, every=keep_every)
    checkpoints = opt.client(runs, verbose=verbose).checkpoints
    plan = checkpoints.prune_plan(name, keep)
    done = checkpoints.prune(plan) if yes and plan.goes else None
    if as_json:
        opt.emit({"plan": plan.to_dict(), "done": None if done is None else done.to_dict()})
        return
    show.out.print(prune_table(plan))
    size = size_text(plan.bytes)
    if done is not None:
        typer.echo(f"removed {len(plan.goes)} checkpoints, {size}; left:")
        print_ledger(done.ledger)
    elif plan.goes:
        typer.echo(f"nothing was removed; --yes removes {len(plan.goes)} checkpoints, {size}")
    else:
        typer.echo("nothing to remove")


def prune_table(plan: PrunePlan) -> Table:
    """What becomes of each checkpoint and why, and what it takes on each node."""
    nodes = plan.ledger.nodes
    table = show.folding(
        "checkpoint", "", "why", *short_names(nodes), title=escape(plan.source.name)
    )
    for choice in plan.choices:
        held = [choice.checkpoint.holding(node) for node in nodes]
        sizes = ["-" if item is None else size_text(item.own_bytes) for item in held]
        fate = "stays" if choice.keep else "goes"
        table.add_row(*map(escape, (choice.checkpoint.title, fate, choice.reason, *sizes)))
    return table


def print_ledger(ledger: Ledger) -> None:
    """A table, and below it what is not as it should be."""
    show.out.print(ledger_table(ledger))
    for line in remarks(ledger):
        show.out.print(line, markup=False)


def ledger_table(ledger: Ledger) -> Table:
    """A line a checkpoint; a column a node says how many of the files it takes are there."""
    columns: list[tuple[str, Callable[[Checkpoint], str]]] = [
        ("checkpoint", lambda item: item.title),
        ("kind", kind_text),
        ("size", lambda item: size_text(item.bytes)),
        ("optimizer", lambda item: _yes(item.has_optimizer)),
        ("RNG", lambda item: _yes(item.has_rng)),
    ]
    for node, short in zip(ledger.nodes, short_names(ledger.nodes), strict=True):
        columns.append((short, lambda item, node=node: _cell(ledger, item, node)))  # type: ignore[misc]
    if any(item.shared for item in ledger.checkpoints):
        columns.append(("shared", lambda item: _shared(ledger.nodes, item)))
    columns += [
        ("complete", lambda item: _yes(item.complete)),
        ("resume", lambda item: _yes(item.resume.possible)),
        ("export", lambda item: _yes(item.export.possible)),
        ("age", lambda item: "writing" if item.writing else _age(item)),
    ]
    table = show.folding(*(head for head, _ in columns), title=escape(ledger.name))
    for item in ledger.checkpoints:
        table.add_row(*(escape(cell(item)) for _, cell in columns))
    return table


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def _age(item: Checkpoint) -> str:
    return "" if item.age is None else show.age(item.age)


def _cell(ledger: Ledger, item: Checkpoint, node: str) -> str:
    """``all``, ``3/7`` of the files that it takes, ``-``, or ``?`` of a silent node."""
    if node in ledger.silent:
        return "?"
    holding = item.holding(node)
    if holding is None:
        return "-"
    whole = holding.good == item.required and item.required
    return "all" if whole else f"{holding.good}/{item.required}"


def _shared(nodes: Sequence[str], item: Checkpoint) -> str:
    short = dict(zip(nodes, short_names(nodes), strict=True))
    return " ".join("=".join(short[node] for node in group) for group in item.shared)


def kind_text(item: Checkpoint) -> str:
    """``mcore``, ``mcore_lora+hf_lora``, ``hf merged``."""
    forms = [item.kind, *(form for form in item.forms if form != item.kind)]
    return ("+".join(filter(None, forms)) or "?") + (" merged" if item.merged else "")


def short_names(nodes: Sequence[str]) -> list[str]:
    """Names of nodes without the beginning that all have."""
    parts = [_PART.findall(name) for name in nodes]
    while len(parts) > 1 and len({tuple(part[:1]) for part in parts}) == 1 and parts[0][1:]:
        parts = [part[1:] for part in parts]
    return ["".join(part) or name for part, name in zip(parts, nodes, strict=True)]


def size_text(count: int) -> str:
    """Bytes in the largest unit that fits."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def remarks(ledger: Ledger) -> Iterator[str]:
    """What is not as it should be, a line each."""
    for item in ledger.checkpoints:
        if not item.complete:
            yield f"{item.title}: {'; '.join(item.resume.reasons)}"
        yield from (f"{item.title}: {text}" for text in item.problems)
    for node, text in ledger.silent.items():
        yield f"{node} did not answer: {text}"
    for node, texts in ledger.problems.items():
        yield from (f"{node}: {text}" for text in texts)
