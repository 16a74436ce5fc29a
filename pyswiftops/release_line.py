"""``line: auto``: the release line that nodes have, and forks held to what they really take.

A release of a known line is its version. Of anything else (a development version, an editable
checkout, a line that is newer than the matrix) the argument classes are read on the nodes, the
nearest line's names are used, and every rendered flag is held to what is there.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from pyswiftops import matrix
from pyswiftops.errors import BadInputError, Finding, MatrixError
from pyswiftops.results import CommandResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.command import Command, Late
from pyswiftops.stages.lines import accepts, rendered

AUTO = "auto"
CLASSES = {
    "swift pt": "PretrainArguments",
    "swift sft": "SftArguments",
    "swift rlhf": "RLHFArguments",
    "swift infer": "InferArguments",
    "swift export": "ExportArguments",
    "swift deploy": "DeployArguments",
    "swift eval": "EvalArguments",
    "swift rollout": "RolloutArguments",
    "swift sample": "SamplingArguments",
    "megatron pt": "MegatronPretrainArguments",
    "megatron sft": "MegatronSftArguments",
    "megatron rlhf": "MegatronRLHFArguments",
    "megatron export": "MegatronExportArguments",
}
# Until 4.0 one class served both trainings; 2.6 had no command megatron, nor these verbs.
BEFORE_4 = {
    "swift pt": "TrainArguments",
    "swift sft": "TrainArguments",
    "megatron pt": "MegatronTrainArguments",
    "megatron sft": "MegatronTrainArguments",
}
LINE_2 = {"swift pt": "PtArguments", "swift sft": "SftArguments"}
NOT_IN_2 = {"swift rollout", "swift sample"}


def classes(line: str) -> dict[str, str]:
    """Verb -> the class of a line that holds its flags."""
    number = tuple(int(part) for part in line.split("."))
    if number < (3, 0):
        ours = {
            verb: name
            for verb, name in CLASSES.items()
            if not verb.startswith("megatron") and verb not in NOT_IN_2
        }
        return {**ours, **LINE_2}
    found = dict(CLASSES) if number >= (4, 0) else {**CLASSES, **BEFORE_4}
    if number < (3, 10):
        del found["megatron export"]  # new in 3.10
    return found


# Python 3.9 and later; prints one line of JSON.
PROBE = """
import importlib.metadata as m, importlib.util as u, json, os
def folder(name):
    try:
        spec = u.find_spec(name)
    except Exception:
        spec = None
    return list(spec.submodule_search_locations)[0] if spec else None
try:
    dist = m.distribution("ms-swift")
except m.PackageNotFoundError:
    dist = None
editable = '"editable": true' in (dist.read_text("direct_url.json") or "") if dist else False
where = folder("swift")
inside = bool(dist and where and where.startswith(str(dist.locate_file("")).rstrip("/") + "/"))
print(json.dumps({"version": dist.version if dist else None, "swift": where,
                  "plain": inside and not editable}))
"""
_RELEASE = re.compile(r"(\d+\.\d+)\.\d+(?:\.post\d+)?")


@dataclass(frozen=True)
class NodeLine:
    """What is known of a fleet's ms-swift.

    Attributes:
        line: The line whose names are used.
        version: What the nodes have.
        flags: Verb -> flag -> ``type = default``, where they were read on the nodes.
    """

    line: str
    version: str
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def probe() -> list[str]:
    """The command that tells a node's version and where it lies."""
    return ["python", "-c", PROBE]


def look(facts: Mapping[str, Any]) -> list[str]:
    """The command that reads the argument classes on a node.

    Args:
        facts: What :func:`probe` told there.
    """
    source = resources.files("pyswiftops").joinpath("flag_walk.py").read_text(encoding="utf-8")
    asked = json.dumps(classes(_nearest_name(facts)))
    return ["python", "-c", source, asked, "swift", "transformers"]


def _nearest_name(facts: Mapping[str, Any]) -> str:
    """The known line of a version, or the newest."""
    found = re.match(r"\d+\.\d+", str(facts["version"]))
    return found[0] if found and found[0] in rendered() else list(rendered())[-1]


def agreed(facts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What all nodes have.

    Args:
        facts: node -> what :func:`probe` told there.

    Raises:
        BadInputError: a node has no ms-swift, or two have different ones.
    """
    versions = {node: fact["version"] if fact["swift"] else None for node, fact in facts.items()}
    missing = [node for node, version in versions.items() if version is None]
    if missing:
        raise BadInputError(
            Finding(
                "ms-swift in the Python of every node",
                f"none on {', '.join(missing)}",
                "line: auto",
                "install it, or set python: in the fleet file",
            )
        )
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{node}: {version}" for node, version in versions.items())
        raise BadInputError(
            Finding("one version of ms-swift on all nodes", told, "line: auto", "install one")
        )
    return next(iter(facts.values()))


def released(facts: Mapping[str, Any]) -> str | None:
    """The line of an ordinary release of a known line; None for anything else."""
    found = _RELEASE.fullmatch(str(facts["version"]))
    return found[1] if found and facts["plain"] and found[1] in rendered() else None


def nearest(version: str, walked: Mapping[str, Mapping[str, Mapping[str, str]]]) -> NodeLine:
    """The known line that is nearest to what nodes have.

    Args:
        version: What they call themselves.
        walked: node -> verb -> flag -> ``type = default``.

    Raises:
        BadInputError: the nodes differ.
    """
    prints = {
        node: hashlib.sha256(json.dumps(flags, sort_keys=True).encode()).hexdigest()[:12]
        for node, flags in walked.items()
    }
    if len(set(prints.values())) > 1:
        told = ", ".join(f"{node}: {text}" for node, text in prints.items())
        raise BadInputError(
            Finding(
                "the same argument classes on all nodes",
                told,
                f"line: auto, ms-swift {version}",
                "bring one checkout to all nodes",
            )
        )
    flags = next(iter(walked.values()))
    best, least = "", None
    for name in rendered():
        known = matrix.typed_flags(name)
        verbs = {*known, *flags}
        apart = sum(len(set(known.get(verb, ())) ^ set(flags.get(verb, ()))) for verb in verbs)
        if least is None or apart <= least:
            best, least = name, apart
    return NodeLine(best, version, flags)


def misfits(found: NodeLine, commands: Iterable[Command]) -> Iterator[Finding]:
    """Flags of commands that the nodes' own classes do not take."""
    for command in commands:
        words = list(command.argv)
        begin = next((n for n, word in enumerate(words) if word in {"swift", "megatron"}), None)
        if begin is None:
            continue
        verb = " ".join(map(str, words[begin : begin + 2]))
        known = found.flags.get(verb, {})
        for name, values in _flags(words[begin + 2 :]):
            if name in known and accepts(known[name], values):
                continue
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"its nearest is --{near[0]}" if near else "none there is like it"
            yield Finding(
                f"a flag that `{verb}` of the nodes' ms-swift {found.version} takes",
                f"--{name} {' '.join(map(str, values))}".strip(),
                f"line: auto, read as {found.line}; job {command.job}",
                f"{hint}; name the line that it is nearest to, or leave the setting out",
            )


def _flags(words: Sequence[str | Late]) -> Iterator[tuple[str, list[Any]]]:
    name = ""
    values: list[Any] = []
    for word in [*words, "--"]:
        if isinstance(word, str) and word.startswith("--"):
            if name:
                yield name, values
            name, values = word[2:], []
        else:
            values.append(word)


def resolve(
    fleet: Fleet, execute: Callable[[Fleet, list[str]], Iterable[CommandResult]]
) -> tuple[Fleet, NodeLine | None]:
    """The fleet with the line that its nodes have, where its file says ``auto``.

    Args:
        fleet: As its file says.
        execute: Runs a command on every node.

    Raises:
        BadInputError: nodes have no ms-swift, or not the same.
        MatrixError: a node does not tell.
    """
    if fleet.line != AUTO:
        return fleet, None

    def told(argv: list[str]) -> dict[str, Any]:
        return {item.node: _read(item) for item in execute(fleet, argv)}

    facts = agreed(told(probe()))
    version, line = str(facts["version"]), released(facts)
    if line is not None:
        return fleet.model_copy(update={"line": line}), NodeLine(line, version)
    found = nearest(version, told(look(facts)))
    return fleet.model_copy(update={"line": found.line, "version": version}), found


def _read(item: CommandResult) -> Any:
    try:
        return json.loads(item.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise MatrixError(
            Finding(
                "the node's ms-swift",
                (item.stderr or item.stdout).strip()[-500:] or "no answer",
                f"{item.node}, line: auto",
                "look at python: of the fleet file, or name the line",
            )
        ) from None
