"""What a stage's modules told for the passport, kept in ``run.json`` beside its outcome."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any

from pyswiftops import __version__
from pyswiftops.runner import PlaybookResult


def recorded(result: PlaybookResult) -> dict[str, Any]:
    """What modules recorded in a stage; keys are left out where there is nothing.

    Returns:
        ``imports`` (job -> groups of nodes with what their processes imported), ``curve``
        (points of the training log), ``machines`` (groups of nodes with their facts) and
        ``files`` (label -> fingerprint).
    """
    imports: dict[str, dict[str, Any]] = {}
    curve: list[Any] = []
    for item in result.results:
        if item.action == "job" and item.data.get("imports"):
            job = PurePosixPath(str(item.data["directory"])).name
            imports.setdefault(job, {})[item.node] = item.data["imports"]
        if item.action == "job" and item.data.get("curve"):
            curve = item.data["curve"]
    told = result.data("record")
    machines = {node: data["machine"] for node, data in told.items() if data.get("machine")}
    files: dict[str, Any] = {}
    for item in result.results:
        if item.action == "record":
            files |= item.data.get("files") or {}
    found = {
        "imports": {job: grouped(nodes.items()) for job, nodes in imports.items()},
        "curve": curve,
        "machines": grouped(machines.items()),
        "files": files,
    }
    return {name: value for name, value in found.items() if value}


def tools() -> dict[str, str]:
    """Versions of what drives a run on the controller."""
    versions = {name: metadata.version(name) for name in ("ansible-core", "ansible-runner")}
    return {"pyswiftops": __version__, **versions, "python": platform.python_version()}


def grouped(items: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Nodes that told the same, as one entry with ``nodes``: 512 nodes are told of in few."""
    groups: dict[str, dict[str, Any]] = {}
    for node, data in items:
        key = json.dumps(data, sort_keys=True)
        groups.setdefault(key, {"nodes": [], **data})["nodes"].append(node)
    return list(groups.values())
