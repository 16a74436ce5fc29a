"""What is asked for: a machine and a wish, as one table of demands that can be given up singly."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from pyswiftops import matrix
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.hardware import hardware
from pyswiftops.solver import methods

PIN = "pin "  # before a package's name, in the name of a demand
PRECISIONS = ("bf16", "fp16", "fp8", "fp32")
# Demand -> what it demands: "arch", "driver", "cuda", "python", "line", "task", "rlhf_type",
# "tuner", "precision", "model_type", and "pin torch" for each package.
Asked = Mapping[str, str]


@dataclass(frozen=True)
class Machine:
    """What the nodes have.

    Attributes:
        arch: GPU architecture, as sm_90.
        driver: Version of the NVIDIA driver.
        python: Version of Python.
        cuda: Version of the CUDA toolkit that extensions are built with, where there is one.
    """

    arch: str
    driver: str
    python: str
    cuda: str | None = None


@dataclass(frozen=True)
class Wish:
    """What is to be done; None leaves the choice open.

    Attributes:
        line: Release line of ms-swift.
        task: A training verb of ``megatron``: pt, sft or rlhf.
        rlhf_type: Method of ``megatron rlhf``, as dpo.
        tuner: full, lora or another that a line has.
        precision: bf16, fp16, fp8 or fp32.
        model_type: ms-swift's name of the model's type.
        packages: Package to specifier.
    """

    line: str | None = None
    task: str | None = None
    rlhf_type: str | None = None
    tuner: str | None = None
    precision: str | None = None
    model_type: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


def demands(machine: Machine, wish: Wish) -> dict[str, str]:
    """Machine and wish as demands, in an order that does not depend on that of the packages.

    Raises:
        BadInputError: a value is no version, or is not known to any release line.
    """
    given = {
        "arch": machine.arch,
        "driver": machine.driver,
        "cuda": machine.cuda,
        "python": machine.python,
        "line": wish.line,
        "task": wish.task,
        "rlhf_type": wish.rlhf_type,
        "tuner": wish.tuner,
        "precision": wish.precision,
        "model_type": wish.model_type,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    wanted: dict[str, list[str]] = {}
    for name, text in sorted(wish.packages.items()):
        wanted.setdefault(_package(name), []).append(text)
    asked |= {f"{PIN}{name}": ",".join(wanted[name]) for name in sorted(wanted)}
    findings = [*_unknown(asked), *_malformed(asked), *_contradictory(wish)]
    if findings:
        raise BadInputError(findings)
    return asked


def pins(asked: Asked) -> dict[str, str]:
    """The packages among the demands: name to specifier."""
    return {name[len(PIN) :]: text for name, text in asked.items() if name.startswith(PIN)}


def choices(demand: str) -> list[str]:
    """The values that some release line or the hardware's facts know for a demand."""
    if demand == "arch":
        return list(hardware().architectures)
    if demand == "line":
        return list(matrix.rows())
    if demand == "precision":
        return list(PRECISIONS)
    return methods.known(demand)


def _package(name: str) -> str:
    """The matrix's spelling of a package's name."""

    def plain(text: str) -> str:
        return re.sub(r"[-_.]+", "-", text.strip()).lower()

    return next((known for known in _packages() if plain(known) == plain(name)), name)


def _packages() -> list[str]:
    return sorted({name for row in matrix.rows().values() for name in row.packages})


def _unknown(asked: Asked) -> Iterator[Finding]:
    for demand in ("arch", "line", "task", "rlhf_type", "tuner", "precision", "model_type"):
        if demand in asked and asked[demand] not in choices(demand):
            yield _nearest(demand, asked[demand], choices(demand))
    for name in pins(asked):
        if name not in _packages():
            yield _nearest(f"{PIN}{name}", name, _packages())


def _nearest(where: str, found: str, known: Iterable[str]) -> Finding:
    listed = list(known)
    close = difflib.get_close_matches(found, listed, n=1, cutoff=0.5)
    few = len(listed) <= 20  # noqa: PLR2004 what a person reads at once
    told = f"one of {', '.join(listed)}" if few else "one that a release line knows"
    hint = f"did you mean {close[0]!r}?" if close else f"give another, or leave out {where}"
    return Finding(told, repr(found), where, hint)


def _malformed(asked: Asked) -> Iterator[Finding]:
    for demand, example in (("driver", "570.26"), ("cuda", "12.8"), ("python", "3.12")):
        short = demand == "driver"  # 570 says enough
        if demand in asked and not _is_version(asked[demand], short=short):
            found = repr(asked[demand])
            yield Finding(f"a version, as {example}", found, demand, f"write it as {example}")
    for name, text in pins(asked).items():
        try:
            SpecifierSet(text)
        except InvalidSpecifier:
            where = f"{PIN}{name}"
            yield Finding("a specifier, as ==2.8 or >=2.6,<3", repr(text), where, "write name==1.2")


def _is_version(text: str, *, short: bool) -> bool:
    try:
        return len(Version(text).release) > 1 or short
    except InvalidVersion:
        return False


def _contradictory(wish: Wish) -> Iterator[Finding]:
    if wish.rlhf_type is not None and wish.task not in {None, "rlhf"}:
        yield Finding("task rlhf", repr(wish.task), "task", "leave out rlhf_type, or ask for rlhf")
