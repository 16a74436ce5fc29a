"""Folders of checkpoints that no run here made, kept under a name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from pyswiftops.errors import BadInputError, Finding, RunNotFoundError
from pyswiftops.paths import AdoptedFile, RunFolder, check_run_id
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import write_json

VERSION = 1


@dataclass(frozen=True)
class Adopted:
    """Folders on the nodes of a fleet.

    Attributes:
        name: What they are called.
        fleet: The machines.
        places: Node -> absolute folders there.
    """

    name: str
    fleet: Fleet
    places: Mapping[str, tuple[str, ...]]

    def save(self, runs: Path) -> None:
        """Keep them in the runs folder."""
        file = AdoptedFile(runs, self.name).path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            file,
            {
                "version": VERSION,
                "name": self.name,
                "fleet": self.fleet.to_yaml(),
                "places": {node: list(folders) for node, folders in self.places.items()},
            },
        )

    @classmethod
    def load(cls, runs: Path, name: str) -> Adopted:
        """Read what was adopted under a name.

        Raises:
            RunNotFoundError: nothing was.
            BadInputError: the file cannot be used.
        """
        file = AdoptedFile(runs, check_run_id(name)).path
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            fleet = Fleet.from_document(yaml.safe_load(found["fleet"]), file)
            places = {node: tuple(folders) for node, folders in found["places"].items()}
        except FileNotFoundError:
            raise RunNotFoundError(
                Finding(
                    f"a run or adopted folders named {name!r}",
                    f"{', '.join(known(runs)) or 'none'}",
                    str(runs),
                    "name one of them, or the folder that holds it (--runs)",
                )
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise BadInputError(
                Finding(
                    f"adopted folders as version {VERSION} keeps them",
                    str(problem),
                    str(file),
                    "remove the file and adopt the folders again",
                )
            ) from None
        return cls(name, fleet, places)


def known(runs: Path) -> list[str]:
    """Run ids, then names of adopted folders."""
    made = sorted(path.parent.name for path in runs.glob("*/run.json"))
    return made + [file.name for file in AdoptedFile.all(runs)]


def parse_places(fleet: Fleet, words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Node -> folders, from words such as ``node-1:/data/out``.

    Raises:
        BadInputError: a word names no node of the fleet, or no absolute folder; or there is none.
    """
    names = [node.name for node in fleet.nodes]
    found: dict[str, list[str]] = {}
    findings = []
    for word in words:
        node, _, folder = word.partition(":")
        plain = PurePosixPath(folder)
        if node in names and plain.is_absolute() and ".." not in plain.parts:
            found.setdefault(node, []).append(str(plain))
            continue
        expected = f"NODE:/FOLDER with a node of {', '.join(names)} and an absolute folder"
        findings.append(Finding(expected, repr(word), "PLACES", f"for instance {names[0]}:/data"))
    if not found and not findings:
        findings.append(Finding("NODE:/FOLDER", "none", "PLACES", f"for instance {names[0]}:/data"))
    if findings:
        raise BadInputError(findings)
    return {node: tuple(dict.fromkeys(found[node])) for node in names if node in found}


def check_free(runs: Path, wanted: Adopted) -> None:
    """See to it that a name means nothing else.

    Raises:
        BadInputError: a run has it, or other folders were adopted under it.
    """
    check_run_id(wanted.name)
    remedy = "name another"
    if RunFolder(runs, wanted.name).state.exists():
        taken = "a run of that id"
    elif AdoptedFile(runs, wanted.name).path.exists():
        if Adopted.load(runs, wanted.name).places == wanted.places:
            return
        taken = "other folders under that name"
        remedy = f"name another, or remove {AdoptedFile(runs, wanted.name).path}"
    else:
        return
    raise BadInputError(Finding(f"a free name, not {wanted.name!r}", taken, str(runs), remedy))
