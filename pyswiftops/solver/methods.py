"""What each release line's Megatron can do, as its flag tables and its model types say."""

from __future__ import annotations

import ast
import json
import re
from functools import cache

from pyswiftops import matrix
from pyswiftops.content import collection
from pyswiftops.stages import lines

TASKS = ("pt", "sft", "rlhf")
_TUNER_FLAGS = ("tuner_type", "train_type")
_LITERAL = re.compile(r"Literal(\[.*?\])")


def known(demand: str) -> list[str]:
    """All values of a demand that any line takes, in the order of their coming."""
    if demand == "task":
        return list(TASKS)
    if demand == "model_type":
        return list(_model_types())
    found: dict[str, None] = {}
    for line in matrix.rows():
        taken = rlhf_types(line) if demand == "rlhf_type" else tuners(line, "sft")
        found |= dict.fromkeys(taken)
    return list(found)


def has_task(line: str, task: str) -> bool:
    """Whether the line trains for a task with Megatron."""
    return bool(rlhf_types(line)) if task == "rlhf" else bool(_flags(line, task))


@cache
def rlhf_types(line: str) -> tuple[str, ...]:
    """The methods of learning from preferences that the line has with Megatron."""
    flag = lines.line(line).verb("train").flags.get("rlhf_type", "")
    return _literals(_flags(line, "rlhf").get(flag, ""))


@cache
def tuners(line: str, task: str) -> tuple[str, ...]:
    """What the line's Megatron training can tune.

    A line without the flag ``lora_rank`` trains full weights only, whatever its flags are called.
    """
    flags = _flags(line, task)
    if not flags:
        return ()
    if "lora_rank" not in flags:
        return ("full",)
    for name in _TUNER_FLAGS:
        if name in flags:
            return _literals(flags[name])
    return ("full",)


def has_precision(line: str, task: str, precision: str) -> bool:
    """Whether the line's Megatron training has the flags of a precision."""
    flags = _flags(line, task)
    wanted = {"fp8": "fp8_format", "bf16": "bf16", "fp16": "fp16", "fp32": "torch_dtype"}
    return wanted[precision] in flags or precision in _literals(flags.get("dtype", ""))


def knows_model(line: str, model_type: str) -> bool:
    """Whether ms-swift of the line knows a model type; Megatron may build fewer."""
    known_lines = list(matrix.rows())
    for span in _model_types()[model_type].split(", "):
        first, _, last = span.partition("-")
        begin, end = known_lines.index(first), known_lines.index(last or first)
        if begin <= known_lines.index(line) <= end:
            return True
    return False


def _flags(line: str, task: str) -> dict[str, str]:
    program = lines.line(line).verb("train").program.format(task=task)
    return matrix.typed_flags(line).get(program, {})


def _literals(kind: str) -> tuple[str, ...]:
    match = _LITERAL.search(kind)
    return tuple(ast.literal_eval(match[1])) if match else ()


@cache
def _model_types() -> dict[str, str]:
    path = collection() / "roles" / "versions" / "files" / "model_types.json"
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found
