"""Folders are shared exactly where the fleet file says so, and copies of a run's inputs agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Fleetwide, Found, Severity, listed
from pyswiftops.specs.preflight import Check

ONE_CACHE = "packing-needs-one-cache"  # a defect of the matrix


def shared(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Every node left a file; those that share a folder see it."""
    if not asked.several:
        return
    for name, told in facts.items():
        meeting = told.get("meeting") or {}
        for path in asked.shared:
            why = (meeting.get("shared_failed") or {}).get(path)
            if why:
                yield Found(
                    Check.SHARED,
                    Severity.BLOCK,
                    name,
                    f"{path}, which shared_paths calls the same on all nodes, can be written",
                    why,
                    f"mount it there: findmnt -T {path}; or take it out of shared_paths",
                )
        for path in asked.shared:
            unseen = [
                other
                for other, peer in (meeting.get("peers") or {}).items()
                if peer["shared"].get(path) is False
                and path not in (facts.get(other, {}).get("meeting") or {}).get("shared_failed", {})
            ]
            if unseen:
                yield Found(
                    Check.SHARED,
                    Severity.BLOCK,
                    name,
                    f"{path} to be the same on all nodes, as shared_paths says",
                    f"files of {listed(unseen)} are not seen in it",
                    f"findmnt -T {path} on each; or take it out of shared_paths",
                )
    if not asked.one_machine:
        yield from _shared_roots(asked, facts)


def _shared_roots(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    for node in asked.nodes:
        if any(node.root == path or node.root.startswith(f"{path}/") for path in asked.shared):
            continue
        seen = [
            name
            for name, told in facts.items()
            if ((told.get("meeting") or {}).get("peers") or {}).get(node.name, {}).get("sees_root")
        ]
        if seen:
            yield Found(
                Check.SHARED,
                Severity.WARN,
                node.name,
                f"{node.root} to be this node's own",
                f"{listed(seen)} see it too, so that it lies on a shared disk",
                "name that disk in shared_paths, or give each node a root on a disk of its own",
            )


def inputs(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Each node has the model and the rows for itself, and all have the same.

    Other rows train something else, or hang; a model may differ in files that nothing reads.
    """
    for path in asked.inputs:
        seen = {
            name: facts[name]["inputs"][path]
            for name in asked.names
            if path in (facts.get(name, {}).get("inputs") or {})
        }
        whole = [name for name, told in seen.items() if "error" not in told]
        remedy = (
            f"rsync -a --delete FIRST:{path} there; or have the pipeline hand it on, "
            "with at: first_node in the run file"
        ).replace("FIRST", whole[0] if whole else "SOURCE")
        for name, told in seen.items():
            if "error" in told:
                expected = f"{path}, which the run names"
                yield Found(Check.INPUTS, Severity.BLOCK, name, expected, told["error"], remedy)
            elif told["blake2b"] != seen[whole[0]]["blake2b"]:
                first = f"{path} as {whole[0]} has it: {_size(seen[whole[0]])}"
                here = f"another: {_size(told)}"
                severity = Severity.WARN if path == asked.model else Severity.BLOCK
                yield Found(Check.INPUTS, severity, name, first, here, remedy)


def _size(told: Mapping[str, Any]) -> str:
    rows = "" if told["rows"] is None else f"{told['rows']} rows, "
    return f"{rows}{told['bytes']} bytes, blake2b {told['blake2b'][:12]}"


def cache(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """MODELSCOPE_CACHE: ms-swift calls one for all nodes crucial; our jobs prove their rows."""
    if not asked.several:
        return
    packs = asked.spec is not None and bool(asked.spec.extra_args.get("train", {}).get("packing"))
    defects = [item for item in asked.row.defects if item.id == ONE_CACHE] if asked.row else []
    inside = all(
        any(node.root.startswith(f"{path}/") for path in asked.shared) for node in asked.nodes
    )
    if packs and defects and not (inside or asked.one_machine):
        yield Found(
            Check.CACHE,
            Severity.BLOCK,
            "",
            "one cache for all nodes",
            defects[0].what,
            defects[0].remedy,
        )
    for name, told in facts.items():
        path = ((told.get("machine") or {}).get("variables") or {}).get("MODELSCOPE_CACHE")
        if path and not any(path == one or path.startswith(f"{one}/") for one in asked.shared):
            yield Found(
                Check.CACHE,
                Severity.NOTE,
                name,
                "MODELSCOPE_CACHE on a disk that all nodes share",
                f"{path}, which shared_paths does not name",
                "jobs of swiftops use the root's own cache and prove that all nodes hold the same "
                "rows; trainings started by hand would hang: export MODELSCOPE_CACHE=SHARED/cache",
            )
