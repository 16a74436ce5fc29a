"""The command solve: which release line and which pins fit a machine and a wish."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from packaging.requirements import InvalidRequirement, Requirement
from rich.markup import escape

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.solver import Machine, Solution, Wish
from pyswiftops.solver import solve as newest_that_fits


def solve(
    *,
    arch: Annotated[str, typer.Option(help="The GPUs' architecture, as sm_90.")],
    driver: Annotated[str, typer.Option(help="The NVIDIA driver's version, as 570.26.")],
    python: Annotated[str, typer.Option(help="The nodes' Python, as 3.12.")],
    cuda: Annotated[
        str | None, typer.Option(help="The CUDA toolkit that extensions are built with, as 12.8.")
    ] = None,
    line: Annotated[str | None, typer.Option(help="The ms-swift release line.")] = None,
    task: Annotated[str | None, typer.Option(help="pt, sft or rlhf, by Megatron.")] = None,
    rlhf_type: Annotated[str | None, typer.Option(help="The method of rlhf, as dpo.")] = None,
    tuner: Annotated[str | None, typer.Option(help="full or lora.")] = None,
    precision: Annotated[str | None, typer.Option(help="bf16, fp16, fp8 or fp32.")] = None,
    model_type: Annotated[str | None, typer.Option(help="ms-swift's name, as qwen3.")] = None,
    pin: Annotated[
        list[str] | None, typer.Option(help="A package that must be so, as torch==2.8; repeatable.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """The newest release line and the pins that fit; or which demand would have to give."""
    wish = Wish(
        line=line,
        task=task,
        rlhf_type=rlhf_type,
        tuner=tuner,
        precision=precision,
        model_type=model_type,
        packages=_packages(pin or []),
    )
    found = newest_that_fits(Machine(arch=arch, driver=driver, python=python, cuda=cuda), wish)
    if as_json:
        opt.emit(asdict(found))
    else:
        _show(found)


def _packages(texts: Iterable[str]) -> dict[str, str]:
    """``torch==2.8`` as name and specifier; what is given twice must hold twice.

    Raises:
        BadInputError: a text is no name with a specifier.
    """
    found: dict[str, str] = {}
    for text in texts:
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            asked = None
        if asked is None or not asked.specifier or asked.url or asked.marker or asked.extras:
            remedy = "write it as torch==2.8, in quotes where it has < or >"
            raise BadInputError(Finding("a name and a range", repr(text), "--pin", remedy))
        before = [found[asked.name]] if asked.name in found else []
        found[asked.name] = ",".join([*before, str(asked.specifier)])
    return found


def _show(found: Solution) -> None:
    typer.echo(f"ms-swift {found.release} of line {found.line}, torch for CUDA {found.cuda}")
    typer.echo(f"precision {found.precision}, Megatron from {found.megatron}")
    table = show.folding("package", "pin", "grade", "source")
    for name, pin in found.pins.items():
        table.add_row(name, escape(pin.specifier), pin.grade, escape(pin.source))
    show.out.print(table)
    for reason in found.reasons:
        typer.echo(f"because: {reason}")
    for warning in found.warnings:
        typer.echo(f"mind: {warning}")
