"""The version matrix, read from the collection's role ``versions``; Python holds no copy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from pyswiftops.content import collection
from pyswiftops.errors import Finding, MatrixError
from pyswiftops.specs.document import Model, validate

Grade = Literal["run", "wheel", "docs", "inferred"]


class Fact(Model):
    """A fact's origin: ``source`` says where it was found, ``grade`` how well it is known."""

    source: str
    grade: Grade


class MegatronSource(Fact):
    """Where Megatron's code comes from."""

    kind: Literal["pip", "git"]
    repository: str | None = None
    branch: str | None = None
    commit: str | None = None
    patch_repository: str | None = None
    patch_commit: str | None = None
    environment: list[str] = Field(
        default_factory=list, description="Variables that must name the checkouts."
    )


class PythonRange(Fact):
    """Which Python the line runs on."""

    range: str


class Package(Fact):
    """A package's accepted range, and the version that is known to work."""

    range: str
    pin: str | None = None
    pin_py312: str | None = Field(default=None, description="The pin on Python 3.12 and later.")
    recommended: str | None = None
    also: list[str] = Field(default_factory=list, description="Others recommended beside it.")


class Cuda(Fact):
    """The CUDA versions that the line's documentation names; a range is stated nowhere."""

    recommended: list[str] = Field(description="As 12.8, ascending.")


class Image(Fact):
    """A container image of the line, in the same registry of several regions."""

    purpose: str
    regions: list[str]
    repository: str = Field(description="With {region} where a region's name belongs.")
    tag: str

    def references(self) -> dict[str, str]:
        """Region -> reference; the digest that a pull needs is the registry's to tell."""
        return {
            region: f"{self.repository.replace('{region}', region)}:{self.tag}"
            for region in self.regions
        }


class Apex(Fact):
    """Whether NVIDIA's apex is needed, and the flags that do without it."""

    required: bool
    commit: str | None = Field(default=None, description="The commit that builds with the line.")
    avoid: dict[str, bool]


class CheckpointLayout(Fact):
    """How the line lays out checkpoints on nodes that share no disk."""

    layout: str
    hf_weights_on: Literal["first", "last", "none"]
    log_on: Literal["first", "last", "none"]


class Defect(Model):
    """A known defect of the line, with its remedy."""

    id: str
    what: str
    remedy: str


class Row(Model):
    """One release line of ms-swift."""

    line: str
    release: str
    megatron_source: MegatronSource
    python: PythonRange
    packages: dict[str, Package]
    cuda: Cuda | None = None
    images: list[Image]
    apex: Apex | None = None
    env: dict[str, str]
    trackers: list[str]
    checkpoint: CheckpointLayout | None = None
    defects: list[Defect]
    run: list[str] = Field(
        default_factory=list, description="Abilities (stages/lines/abilities.py) that were run."
    )


def load_row(data: Mapping[str, Any], where: str) -> Row:
    """Validate one row.

    Raises:
        MatrixError: the row does not fit the schema.
    """
    return validate(Row, data, where, MatrixError)


@cache
def rows() -> dict[str, Row]:
    """Release line -> row, in ascending order of the line."""
    found = {}
    folder = collection() / "roles" / "versions" / "vars" / "main"
    for path in sorted(folder.glob("*.yml")):
        for data in yaml.safe_load(path.read_text(encoding="utf-8")).values():
            row = load_row(data, path.name)
            found[row.line] = row
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def row(line: str) -> Row:
    """The row of a release line.

    Raises:
        MatrixError: no such row.
    """
    known = rows()
    if line not in known:
        raise MatrixError(
            Finding(
                f"line: one of {', '.join(known)}",
                repr(line),
                "line of the fleet file",
                "set line to the ms-swift release line that the nodes have",
            )
        )
    return known[line]


@cache
def typed_flags(line: str) -> dict[str, dict[str, str]]:
    """Verb ("megatron sft") -> flag, without dashes -> its ``type = default`` in the release."""
    folder = collection() / "roles" / "versions" / "files" / "flags"
    return read_flags(folder / f"{row(line).line}.json")


def read_flags(path: Path) -> dict[str, dict[str, str]]:
    """An inventory's file: verb -> flag -> ``type = default``."""
    document = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {verb: {} for verb in document["verbs"]}
    for flag, kinds in document["flags"].items():
        for kind, verbs in kinds.items():
            for verb in verbs.split(", "):
                found[verb][flag] = kind
    return found


def flags(line: str) -> dict[str, frozenset[str]]:
    """Verb ("megatron sft") -> the flags, without dashes, that the line's release takes."""
    return {verb: frozenset(names) for verb, names in typed_flags(line).items()}


def check_flags(line: str, verb: str, names: Mapping[str, Any], where: str) -> list[Finding]:
    """Findings for the names that ``verb`` of ``line`` does not take; prefixes are not accepted."""
    known = flags(line)[verb]
    findings = []
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"see `{verb} --help` of ms-swift {line}"
        having = [other for other in rows() if name in flags(other).get(verb, ())]
        hint += f" Lines that have it: {', '.join(having)}" if having else ""
        findings.append(Finding(f"a flag of `{verb}`", repr(name), f"{where}.{name}", hint))
    return findings
