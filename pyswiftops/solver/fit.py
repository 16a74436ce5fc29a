"""One release line against the demands: the pins that fit, or why none do."""

from __future__ import annotations

from dataclasses import dataclass

from pyswiftops.matrix import Grade, Package, Row
from pyswiftops.solver import methods
from pyswiftops.solver.asked import PIN, Asked, pins
from pyswiftops.solver.builds import (
    MEGATRON,
    TORCH,
    VLLM,
    NoFitError,
    arch_of,
    best_build,
    specifier,
)
from pyswiftops.solver.ranges import within
from pyswiftops.solver.words import reasons, warnings

FLASH = "flash-attn"


@dataclass(frozen=True)
class Pin:
    """A package of the solution.

    Attributes:
        specifier: One version where one is known, otherwise the range.
        grade: How well it is known; only versions that the row pins were run.
        source: Where the row's fact is from.
    """

    specifier: str
    grade: Grade
    source: str


@dataclass(frozen=True)
class Solution:
    """What fits.

    Attributes:
        line: The release line.
        release: Its release.
        cuda: The CUDA version of torch's build, as 12.8.
        precision: The one asked for, or the best that the GPU has.
        megatron: Where Megatron's code comes from: pip, or repository and branch.
        pins: Package to pin.
        reasons: Why these.
        warnings: What may not hold, or was not looked at.
    """

    line: str
    release: str
    cuda: str
    precision: str
    megatron: str
    pins: dict[str, Pin]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def fit(row: Row, asked: Asked) -> Solution:
    """The line's pins under the demands.

    Raises:
        NoFitError: there are none.
    """
    _check_method(row, asked)
    _check_machine(row, asked)
    others = {
        name: specifier(name, package, asked)
        for name, package in row.packages.items()
        if name not in {TORCH, MEGATRON, VLLM} and not _left_out(name, asked)
    }
    unknown = sorted(set(pins(asked)) - set(row.packages))
    if unknown:
        raise NoFitError(f"its row says nothing of {', '.join(unknown)}")
    build = best_build(row, asked)
    chosen = {**others, **build.specifiers()}
    ordered = {
        name: Pin(chosen[name], _grade(package, chosen[name]), package.source)
        for name, package in row.packages.items()
        if name in chosen
    }
    return Solution(
        line=row.line,
        release=row.release,
        cuda=build.cuda,
        precision=_precision(asked),
        megatron=_megatron_source(row),
        pins=ordered,
        reasons=tuple(reasons(row, asked, build)),
        warnings=tuple(warnings(row, asked, build)),
    )


def _grade(package: Package, specifier: str) -> Grade:
    """The row's; only the versions that the row pins were run."""
    ran = {f"=={version}" for version in (package.pin, package.pin_py312)}
    named = specifier.startswith("==") and package.range != specifier
    return "docs" if package.grade == "run" and named and specifier not in ran else package.grade


def _task(asked: Asked) -> str:
    return asked.get("task") or ("rlhf" if "rlhf_type" in asked else "sft")


def _check_method(row: Row, asked: Asked) -> None:
    line, task = row.line, _task(asked)
    wants = {"task", "rlhf_type", "tuner", "precision"} & set(asked)
    if "line" in asked and asked["line"] != line:
        raise NoFitError(f"line {asked['line']} was asked for")
    if wants and not methods.has_task(line, task):
        raise NoFitError(f"it has no `megatron {task}`")
    if "rlhf_type" in asked and asked["rlhf_type"] not in methods.rlhf_types(line):
        has = ", ".join(methods.rlhf_types(line))
        raise NoFitError(f"its `megatron rlhf` has {has}, and not {asked['rlhf_type']}")
    if "tuner" in asked and asked["tuner"] not in methods.tuners(line, task):
        has = ", ".join(methods.tuners(line, task))
        raise NoFitError(f"its `megatron {task}` trains {has}, and not {asked['tuner']}")
    if "precision" in asked and not methods.has_precision(line, task, asked["precision"]):
        raise NoFitError(f"its `megatron {task}` has no flag for {asked['precision']}")
    if "model_type" in asked and not methods.knows_model(line, asked["model_type"]):
        raise NoFitError(f"it does not know the model type {asked['model_type']}")


def _check_machine(row: Row, asked: Asked) -> None:
    arch = arch_of(asked)
    if "python" in asked and not within(asked["python"], row.python.range):
        raise NoFitError(f"its Python is {row.python.range}")
    if arch is None:
        return
    name = asked["arch"]
    if asked.get("precision") == "bf16" and not arch.bf16:
        raise NoFitError(f"{name} ({arch.gpus}) has no bf16")
    if asked.get("precision") == "fp8" and not arch.fp8:
        raise NoFitError(f"{name} ({arch.gpus}) has no fp8")
    if f"{PIN}{FLASH}" in asked and not arch.flash_attn:
        raise NoFitError(f"flash-attn does not run on {name} ({arch.gpus})")
    if "cuda" in asked and not within(asked["cuda"], arch.cuda):
        raise NoFitError(f"only CUDA {arch.cuda} builds for {name} ({arch.gpus})")


def _left_out(name: str, asked: Asked) -> bool:
    arch = arch_of(asked)
    return name == FLASH and arch is not None and not arch.flash_attn


def _precision(asked: Asked) -> str:
    arch = arch_of(asked)
    return asked.get("precision") or ("bf16" if arch is None or arch.bf16 else "fp16")


def _megatron_source(row: Row) -> str:
    source = row.megatron_source
    place = " ".join(filter(None, (source.repository, source.branch, source.commit)))
    return place or source.kind
