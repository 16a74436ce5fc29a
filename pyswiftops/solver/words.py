"""Why a solution is what it is, and what may not hold, as sentences."""

from __future__ import annotations

from collections.abc import Iterator

from pyswiftops.hardware import hardware
from pyswiftops.matrix import Row
from pyswiftops.solver.asked import Asked
from pyswiftops.solver.builds import (
    MEGATRON,
    TORCH,
    VLLM,
    Build,
    arch_of,
    limited,
    minor,
    recommended,
)


def reasons(row: Row, asked: Asked, build: Build) -> Iterator[str]:
    """Why these pins."""
    arch = arch_of(asked)
    if "line" in asked:
        yield f"ms-swift {row.line}: asked for, and it meets every other demand"
    else:
        yield f"ms-swift {row.line}: the newest line that meets every demand"
    if build.torch in recommended(row.packages[TORCH]):
        yield f"torch {build.torch}: recommended for the line"
    yield f"CUDA {build.cuda}: torch {build.torch} is built for it"
    if arch is not None:
        yield f"{asked['arch']} ({arch.gpus}): CUDA {arch.cuda} builds for it"
    if "precision" not in asked and arch is not None:
        yield "bf16: the GPU has it" if arch.bf16 else "fp16: the GPU has no bf16"
    if build.megatron and "python" in asked and row.megatron_source.kind == "pip":
        yield f"{MEGATRON} {build.megatron}: takes Python {asked['python']}"


def warnings(row: Row, asked: Asked, build: Build) -> Iterator[str]:
    """What may not hold, or was not looked at."""
    yield from _of_torch(row, asked, build)
    arch = arch_of(asked)
    if arch is not None and not arch.flash_attn:
        yield f"{asked['arch']} has no flash-attn: pass --attention_backend unfused"
    if row.megatron_source.kind == "git":
        yield "Megatron-LM comes from its repository: what that needs was not looked at"
    if VLLM in row.packages and build.vllm is None:
        yield f"vllm: none that the row names goes with torch {build.torch}"
    if "model_type" in asked:
        yield f"{asked['model_type']}: ms-swift knows it; whether Megatron builds it is not known"
    yield "all of it is read from data: no index was asked, and nothing was installed"


def _of_torch(row: Row, asked: Asked, build: Build) -> Iterator[str]:
    best, toolkit = recommended(row.packages[TORCH]), hardware().cuda[build.cuda]
    if build.torch not in best:
        told = f"recommended is {' or '.join(best)}" if best else "none is recommended"
        yield f"torch {build.torch}: {told} for line {row.line}"
    if row.cuda and build.cuda not in row.cuda.recommended:
        yield f"CUDA {build.cuda}: the line's documentation names {', '.join(row.cuda.recommended)}"
    old = list(_old_driver(asked))
    if limited(toolkit, asked) and not old:
        told = f"driver {asked['driver']} is older than {toolkit.own_driver}, that of CUDA"
        yield f"{told} {build.cuda}: it runs, but what it compiles at run time may not"
    if "cuda" in asked and minor(asked["cuda"]) != build.cuda:
        yield f"CUDA {asked['cuda']} here, {build.cuda} in torch: extensions are built with both"
    yield from old


def _old_driver(asked: Asked) -> Iterator[str]:
    """The driver of the first toolkit for an architecture is the first that surely knows it."""
    arch, driver = arch_of(asked), asked.get("driver")
    if arch is None or driver is None:
        return
    first = hardware().cuda.get(arch.cuda.removeprefix(">="))
    if first is not None and limited(first, asked):
        told = f"driver {driver} is older than {first.own_driver}"
        yield f"{told}, which came with the first CUDA for {asked['arch']}: it may not know the GPU"
