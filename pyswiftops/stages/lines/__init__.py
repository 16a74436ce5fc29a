"""Flag tables of release lines, one file a generation: neutral name -> the line's flag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyswiftops.errors import Finding, MatrixError


@dataclass(frozen=True)
class Line:
    """What the commands of one release line are called.

    Attributes:
        name: The line.
        train: Neutral name of a training setting -> flag of ``megatron sft|pt``.
        export: The same for ``megatron export``.
        infer: The same for ``swift infer`` and ``swift deploy``.
        train_always: Flags of every training command.
        train_usual: The same, where ``extra_args`` may say otherwise.
        offline: Flags that keep ``megatron`` from asking the model hub about local paths.
        cpu_train: Flags that training needs on the CPU backend.
        cpu_megatron: Flags that every ``megatron`` verb needs on the CPU backend.
        cpu_precision: Flags for real float32.
        infer_backend: The backend's name for plain transformers.
    """

    name: str
    train: dict[str, str]
    export: dict[str, str]
    infer: dict[str, str]
    train_always: dict[str, Any]
    train_usual: dict[str, Any]
    offline: dict[str, Any]
    cpu_train: dict[str, Any]
    cpu_megatron: dict[str, Any]
    cpu_precision: dict[str, Any]
    infer_backend: str


def rendered() -> dict[str, Line]:
    """Release line -> its flag table, for all lines whose commands this version can render."""
    from pyswiftops.stages.lines import v4  # noqa: PLC0415 tables import Line

    return {table.name: table for table in v4.LINES}


def line(name: str) -> Line:
    """The flag table of a release line.

    Raises:
        MatrixError: this version of pyswiftops cannot render the line.
    """
    known = rendered()
    if name not in known:
        raise MatrixError(
            Finding(
                f"a release line that commands can be rendered for: {', '.join(known)}",
                repr(name),
                "line of the fleet file",
                "use a node with one of these lines, or add a table in pyswiftops/stages/lines/",
            )
        )
    return known[name]
