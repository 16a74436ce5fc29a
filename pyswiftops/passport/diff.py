"""What differs between two passports, the most suspicious first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

AREAS = (
    "versions",
    "data",
    "model",
    "flags",
    "environment",
    "machines",
    "fleet",
    "run file",
    "tools",
    "checkpoint",
    "stages",
    "loss",
    "answers",
)
"""In the order in which they explain why the same thing went another way: causes, then effects."""

RECORD = "imports"
FINGERPRINT = "fingerprint of"
FILES = frozenset({"data", "model", "checkpoint"})
Key = tuple[str, str, str]
"""Area, what, where."""

Flat = dict[Key, str]
NOTABLE_LOSS = 0.001
_FLAG = re.compile(r"--[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes:
        area: One of :data:`AREAS`.
        what: The thing: a package, a flag, a file.
        where: The jobs or nodes that it holds for, or "".
        before: In the first passport; None where it is not there.
        after: In the second; None where it is not there.
    """

    area: str
    what: str
    where: str
    before: str | None
    after: str | None

    def to_dict(self) -> dict[str, str | None]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        before, after = ("none" if side is None else side for side in (self.before, self.after))
        return f"{self.what}{place}: {before} -> {after}"


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Everything that differs, in the order of :data:`AREAS`.

    Names that differ in any two runs (the run's id in paths, leased ports, times of day) do not
    count, nor do nodes' own roots in commands. What one of the two does not have at all is told
    once: a job whose processes left no record, not package by package, and a folder, not file by
    file.
    """
    sides = [_flat(passport) for passport in (first, second)]
    found: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        before, after = (side.get(key) for side in sides)
        if before == after or _alike(key[0], before, after):
            continue
        area, what, where = key
        whole = _whole(key)
        if whole != key and not all(whole in side for side in sides):
            continue
        found.setdefault((area, what, before, after), []).append(where)
    rows = [
        Difference(area, what, ", ".join(dict.fromkeys(filter(None, where))), before, after)
        for (area, what, before, after), where in found.items()
    ]
    return sorted(rows, key=lambda row: (AREAS.index(row.area), None in (row.before, row.after)))


def _whole(key: Key) -> Key:
    """The key of what a key is a part of, or the key itself."""
    area, what, where = key
    if area == "versions":
        return area, RECORD, where
    if area in FILES and "/" in what:
        return area, f"{FINGERPRINT} {what.partition('/')[0]}", where
    return key


def _alike(area: str, before: str | None, after: str | None) -> bool:
    """Whether two losses are the same for all that matters."""
    if area != "loss" or before is None or after is None:
        return False
    return abs(float(before) - float(after)) <= NOTABLE_LOSS * max(1.0, abs(float(before)))


def _flat(passport: Mapping[str, Any]) -> Flat:
    """A passport as (area, what, where) -> text."""
    run = str(passport["run"]["run_id"])
    flat: Flat = {}
    for job, groups in passport["imports"].items():
        _imports(flat, job, groups)
    for label, item in passport["files"].items():
        area = label.partition(".")[0]
        _file(flat, area if area in {"data", "model"} else "checkpoint", label, item)
    fleet = passport["fleet"]
    roots = {
        node["name"]: node["root"] or f"{fleet['root']}/{node['name']}" for node in fleet["nodes"]
    }
    for job, nodes in passport["commands"].items():
        for node, command in nodes.items():
            _command(flat, f"{job} on {node}", command, (run, roots[node]))
    for machine in passport["machines"]:
        _machine(flat, machine)
    _asked(flat, passport, run)
    for name, version in passport["run"]["tools"].items():
        flat["tools", name, ""] = _text(version)
    _effects(flat, passport, run)
    return flat


def _machine(flat: Flat, machine: Mapping[str, Any]) -> None:
    for key, value in machine.items():
        for node in machine["nodes"] if key != "nodes" else ():
            flat["machines", key, node] = _text(value)


def _asked(flat: Flat, passport: Mapping[str, Any], run: str) -> None:
    for area, data in (("fleet", passport["fleet"]), ("run file", passport["spec"])):
        for path, value in _leaves(data):
            if path != "name":
                flat[area, path, ""] = _neutral(_text(value), run)
    for name, value in passport["values"].items():
        if not name.startswith("lease."):
            flat["run file", f"{{{name}}}", ""] = _neutral(_text(value), run)


def _effects(flat: Flat, passport: Mapping[str, Any], run: str) -> None:
    for item in passport["stages"]:
        flat["stages", item["stage"], ""] = _text(item["state"])
        if item["error"]:
            lines = str(item["error"]).strip().splitlines()
            flat["stages", f"error of {item['stage']}", ""] = _neutral(lines[0], run)
    for point in passport["loss"]["points"][-1:]:
        flat["loss", "last loss", ""] = _text(point[1])
        flat["loss", "last step", ""] = _text(point[0])
    for item in passport["answers"]:
        for side in ("before", "after"):
            if item[side] is not None:
                what = "base model" if side == "before" else "served model"
                flat["answers", f"{item['ask']} ({what})", ""] = _text(item[side])


def _imports(flat: Flat, job: str, groups: Iterable[Mapping[str, Any]]) -> None:
    for group in groups:
        for node in group["nodes"]:
            where = f"{job} on {node}"
            flat["versions", RECORD, where] = "recorded"
            for name in ("python", "cuda", "nccl"):
                if group[name]:
                    flat["versions", name, where] = group[name]
            for name, version in group["packages"].items():
                own = group["differ"].get(name)
                told = f"{version} (its files say {own})" if own else version
                flat["versions", name, where] = told


def _file(flat: Flat, area: str, label: str, item: Mapping[str, Any]) -> None:
    flat[area, f"{FINGERPRINT} {label}", ""] = item["blake2b"]
    if "rows" in item:
        flat[area, f"rows of {label}", ""] = _text(item["rows"])
    for name, entry in item["files"].items():
        told = f"{entry['bytes']} bytes, {entry['blake2b'] or 'not hashed'}"
        if len(item["files"]) > 1:
            flat[area, f"{label}/{name}", ""] = told


def _command(flat: Flat, where: str, command: Mapping[str, Any], own: tuple[str, str]) -> None:
    for flag, value in flags(command["argv"]).items():
        flat["flags", flag, where] = _neutral(value, *own)
    for name, value in command["env"].items():
        flat["environment", name, where] = _neutral(value, *own)
    for folder in command["path"]:
        flat["environment", "PATH begins with", where] = _neutral(folder, *own)


def flags(argv: Sequence[str]) -> dict[str, str]:
    """A command, flag by flag: the words after each, and the words before the first."""
    found: dict[str, list[str]] = {"command": []}
    at = "command"
    for word in argv:
        if _FLAG.fullmatch(word):
            at = word
            found.setdefault(at, [])
        else:
            found[at].append(word)
    return {flag: " ".join(words) for flag, words in found.items()}


def _neutral(text: str, run: str, root: str = "") -> str:
    """Text without the run's id, where it is all of it or a part of a path, and a node's root."""
    if text == run:
        return "RUN"
    text = re.sub(rf"(?<=/runs/){re.escape(run)}(?=/|$|\s)", "RUN", text)
    return re.sub(rf"(?<![\w.-]){re.escape(root)}(?=/|$|\s)", "ROOT", text) if root else text


def _leaves(data: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Paths of nested data, as in ``training.lr``; nodes of a fleet go by name."""
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list) and data and all(isinstance(item, Mapping) for item in data):
        for number, item in enumerate(data, 1):
            name = str(item.get("name", number))
            yield from _leaves(item, f"{path}[{name}]")
    elif data is not None and data not in ([], {}):
        yield path, data


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
