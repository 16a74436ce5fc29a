# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Say what a node holds of a Megatron torch_dist checkpoint, and prove one complete.

Layout (ms-swift 3.12 to 4.6)::

    checkpoint-N/latest_checkpointed_iteration.txt   "N"; rank 0 writes it
    checkpoint-N/args.json                           rank 0 writes it
    checkpoint-N/iter_000000N/.metadata              the index; rank 0 writes it
    checkpoint-N/iter_000000N/metadata.json          rank 0 writes it
    checkpoint-N/iter_000000N/__<rank>_<n>.distcp    every rank writes its own

``common.pt`` proves nothing: a checkpoint without weights holds it, and megatron-core 0.19 writes
none. Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist_index

TRACKER = "latest_checkpointed_iteration.txt"
ARGS = "args.json"
METADATA_JSON = "metadata.json"
COMMON = "common.pt"

REMEDY = (
    "run the gather stage again: swiftops run --only gather --again, or "
    "ansible-playbook pyswiftops.fleet.stages.gather"
)

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_ITERATION = re.compile(r"iter_(\d+)")
_RELEASE = "release"
_SHARD = re.compile(r"__(\d+)_\d+\.distcp")
_PART = re.compile(r"\.?(__\d+_\d+\.distcp)\.part")
_SHOWN = 8

Problems = list[str]


def is_iteration(path: Path) -> bool:
    """Tell whether a path is an ``iter_`` (or ``release``) folder by its name."""
    return bool(_ITERATION.fullmatch(path.name)) or path.name == _RELEASE


def iterations(checkpoint: Path) -> list[Path]:
    """Return the ``iter_`` folders in a folder, the lowest first."""
    found = [p for p in checkpoint.iterdir() if _ITERATION.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name[len("iter_") :]))


def holds_anything(checkpoint: Path) -> bool:
    """Tell whether a folder holds a tracker or at least one shard."""
    return (checkpoint / TRACKER).is_file() or any(
        _SHARD.fullmatch(entry.name) or _PART.fullmatch(entry.name)
        for folder in iterations(checkpoint)
        for entry in folder.iterdir()
    )


def locate(path: Path) -> Path | None:
    """Return the checkpoint that a path stands for.

    Args:
        path: A checkpoint folder, an ``iter_`` folder in one, or the output folder of a
            training, whose highest ``checkpoint-N`` with a tracker or a shard is taken.

    Returns:
        The checkpoint folder or the ``iter_`` folder, None where there is none.
    """
    if not path.is_dir():
        return None
    named = _CHECKPOINT.fullmatch(path.name) is not None
    if is_iteration(path) or named or (path / TRACKER).is_file() or iterations(path):
        return path
    return next((entry for entry in numbered(path) if holds_anything(entry)), None)


def of_transformers(output: Path) -> Path | None:
    """Return the highest whole ``checkpoint-N`` of a training without Megatron, or None."""
    if not output.is_dir():
        return None
    whole = (entry for entry in numbered(output) if (entry / "trainer_state.json").is_file())
    return next(whole, None)


def numbered(output: Path) -> list[Path]:
    """Return the ``checkpoint-N`` folders in a training's output folder, the highest N first."""
    found = [
        (int(match.group(1)), entry)
        for entry in output.iterdir()
        for match in [_CHECKPOINT.fullmatch(entry.name)]
        if match and entry.is_dir() and not entry.is_symlink()
    ]
    return [entry for _, entry in sorted(found, reverse=True)]


def _pick(checkpoint: Path, problems: Problems) -> tuple[int | None, Path | None]:
    """Return the iteration and its folder, from the tracker, or from the folders' names."""
    tracker = checkpoint / TRACKER
    folders = iterations(checkpoint)
    latest = folders[-1] if folders else None
    if tracker.is_file():
        text = tracker.read_text("utf-8", "replace").strip()
        if text == _RELEASE:
            return None, checkpoint / _RELEASE
        if text.isascii() and text.isdigit():
            named = checkpoint / f"iter_{int(text):07d}"
            if not named.is_dir():
                problems.append(f"{TRACKER} names iteration {text}, but {named} is not there")
            return int(text), named
        problems.append(f"{tracker} should hold a number or {_RELEASE!r}, and holds {text[:40]!r}")
    else:
        problems.append(f"{TRACKER} is missing from {checkpoint} (rank 0's node writes it)")
    if latest is None:
        problems.append(f"no iter_ folder lies in {checkpoint}")
        return None, None
    return int(latest.name[len("iter_") :]), latest


def _needed(index: Path, problems: Problems) -> dict[str, int]:
    if not index.is_file():
        problems.append(
            f"{index.name} is missing from {index.parent} (rank 0's node writes it), so that the "
            "shards cannot be checked"
        )
        return {}
    try:
        needed: dict[str, int] = torch_dist_index.needed_files(
            torch_dist_index.load_index(index), index
        )
    except torch_dist_index.RefusedGlobalError:
        raise
    except torch_dist_index.TorchDistError as error:
        problems.append(str(error))
        return {}
    return needed


def _half_copied(held: Mapping[str, int]) -> dict[str, str]:
    """Return shard to temporary file, for shards of which only that is there."""
    matches = [match for match in map(_PART.fullmatch, held) if match]
    return {match.group(1): match.group(0) for match in matches if match.group(1) not in held}


def inspect(path: str | Path) -> dict[str, Any]:
    """Say what a folder holds of a checkpoint.

    Args:
        path: A checkpoint folder or an ``iter_`` folder in one.

    Returns:
        ``checkpoint`` and ``iter_dir`` (folders, None where there is none), ``iteration``,
        ``needed`` (shard to the bytes that the index asks for), ``shards`` (shard to the bytes
        that are here), ``missing`` (names), ``short`` (``name``, ``needed``, ``found``),
        ``extra`` (names that no checkpoint needs), ``ranks`` (whose shards are here),
        ``has_args``, ``has_tracker``, ``has_metadata``, ``has_metadata_json``,
        ``complete`` and ``problems`` (sentences; empty when complete).

    Raises:
        RefusedGlobalError: The index names something that no checkpoint holds.
        OSError: A folder cannot be read.
    """
    given = Path(path)
    problems: Problems = []
    folder: Path | None
    if is_iteration(given):
        checkpoint, folder = given.parent, given
        match = _ITERATION.fullmatch(given.name)
        iteration = int(match.group(1)) if match else None
        if not given.is_dir():
            problems.append(f"no folder is at {given}")
        if not (checkpoint / TRACKER).is_file():
            problems.append(f"{TRACKER} is missing from {checkpoint} (rank 0's node writes it)")
    elif given.is_dir():
        checkpoint = given
        iteration, folder = _pick(checkpoint, problems)
    else:
        checkpoint, iteration, folder = given, None, None
        problems.append(f"no folder is at {given}")
    has_args = (checkpoint / ARGS).is_file()
    if not has_args and checkpoint.is_dir():
        problems.append(f"{ARGS} is missing from {checkpoint} (rank 0's node writes it)")

    held: dict[str, int] = {}
    needed: dict[str, int] = {}
    if folder is not None and folder.is_dir():
        held = {entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}
        needed = _needed(folder / torch_dist_index.INDEX, problems)
        if METADATA_JSON not in held:
            problems.append(f"{METADATA_JSON} is missing from {folder} (rank 0's node writes it)")
    parts = _half_copied(held)
    sizes = {**held, **{name: held[part] for name, part in parts.items()}}
    missing = [name for name in needed if name not in sizes]
    short = [
        {"name": name, "needed": least, "found": sizes[name]}
        for name, least in needed.items()
        if name in sizes and (name in parts or sizes[name] < max(1, least))
    ]
    problems += [f"{name} is missing ({writer(name)})" for name in missing]
    problems += [
        f"{item['name']} is short: {item['needed']} bytes are needed, {item['found']} are here"
        + (" in a half copied file" if item["name"] in parts else "")
        for item in short
    ]
    known = {*needed, torch_dist_index.INDEX, METADATA_JSON, COMMON, *parts.values()}
    shards = {name: size for name, size in sorted(held.items()) if _SHARD.fullmatch(name)}
    return {
        "checkpoint": str(checkpoint),
        "iteration": iteration,
        "iter_dir": str(folder) if folder else None,
        "needed": needed,
        "shards": shards,
        "missing": missing,
        "short": short,
        "extra": sorted(set(held) - known) if needed else [],
        "ranks": sorted({rank_of(name) for name in shards}),
        "has_args": has_args,
        "has_tracker": (checkpoint / TRACKER).is_file(),
        "has_metadata": torch_dist_index.INDEX in held,
        "has_metadata_json": METADATA_JSON in held,
        "complete": bool(needed) and not problems,
        "problems": problems,
    }


def inspect_any(path: Path) -> dict[str, Any]:
    """Inspect the checkpoint that a path stands for (see ``locate``).

    Raises:
        RefusedGlobalError: The index names something that no checkpoint holds.
        OSError: A folder cannot be read.
    """
    found = locate(path)
    if found is not None:
        return inspect(found)
    answer = inspect(path)
    if path.is_dir():
        answer["problems"] = [f"no checkpoint-N with a tracker or a shard lies in {path}"]
    return {**answer, "checkpoint": None, "iter_dir": None}


def rank_of(shard: str) -> int:
    """Return the global rank that wrote a shard, -1 where the name tells none."""
    match = _SHARD.fullmatch(shard)
    return int(match.group(1)) if match else -1


def writer(shard: str, nodes: Sequence[str] = (), ranks_per_node: int = 0) -> str:
    """Return who writes a shard, by node where the nodes (in node rank order) are known."""
    rank = rank_of(shard)
    if rank < 0:
        return "no rank's name is in it"
    node = rank // ranks_per_node if ranks_per_node > 0 else len(nodes)
    return f"{nodes[node]}'s ranks write it" if node < len(nodes) else f"rank {rank} writes it"


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def explain(
    found: Mapping[str, Any],
    purpose: str = "",
    nodes: Sequence[str] = (),
    ranks_per_node: int = 0,
) -> str:
    """Return the message for a checkpoint that is not complete.

    Args:
        found: What ``inspect`` returned.
        purpose: ``export`` or ``resume``, for the wording.
        nodes: Node names in node rank order, to name who writes a shard.
        ranks_per_node: Ranks of each node.
    """
    needed, missing, short = found["needed"], found["missing"], found["short"]
    aim = {"export": " and cannot be exported", "resume": " and cannot be resumed"}.get(purpose, "")
    count = len(needed)
    reasons = []
    if missing:
        files = _some([f"{name} ({writer(name, nodes, ranks_per_node)})" for name in missing])
        verb = "is" if len(missing) == 1 else "are"
        reasons.append(f"{len(missing)} of {count} shard files {verb} missing: {files}")
    if short:
        files = _some([f"{s['name']} ({s['found']} of {s['needed']} bytes)" for s in short])
        verb = "is" if len(short) == 1 else "are"
        reasons.append(f"{len(short)} of {count} shard files {verb} short: {files}")
    named = (*missing, *(item["name"] for item in short))
    rest = [text for text in found["problems"] if not text.startswith(named)] if named else []
    reasons += rest if named else found["problems"]
    place = found["iter_dir"] or found["checkpoint"] or "the path given"
    return (
        f"checkpoint is not complete{aim}: {'; '.join(reasons)}. "
        f"Expected in {place}: {_some(list(needed)) or 'an index and its shards'}. "
        f"Found: {_some(list(found['shards'])) or 'no shard'}. Remedy: {REMEDY}"
    )
