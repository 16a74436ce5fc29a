# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a gather proved: its record, and that no shard is missing. Python 3.9 and later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist_index
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.errors import GatherError

RECORD = ".gathered.json"
"""In the folder that a gather filled: file to its size and time here and at its source."""

_SHOWN = 8


def record(dest: Path) -> dict[str, Any]:
    """What earlier gathers proved of the files in ``dest``; empty where there is no record."""
    files = summary(dest).get("files")
    return files if isinstance(files, dict) else {}


def summary(dest: Path) -> dict[str, Any]:
    """The record as it stands: what the last gather that moved anything moved, and ``files``."""
    try:
        found = json.loads((dest / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def holds(
    dest: Path,
    name: str,
    entry: Mapping[str, int],
    before: Mapping[str, Any] | None,
    *,
    weights_only: bool,
) -> bool:
    """Whether a file was proven once, and nothing changed since, neither here nor there.

    Args:
        dest: The folder that was filled.
        name: The file in it.
        entry: ``size`` and ``mtime_ns`` of it at its source, now.
        before: Its entry in the record.
        weights_only: Whether only its weights are wanted.
    """
    if not isinstance(before, Mapping) or before.get("weights_only") != weights_only:
        return False
    if (before.get("source_size"), before.get("mtime_ns")) != (entry["size"], entry["mtime_ns"]):
        return False
    if before.get("size") is None:  # it holds nothing of a model
        return True
    try:
        here = (dest / name).lstat()
    except OSError:
        return False
    return (here.st_size, here.st_mtime_ns) == (before["size"], before["mtime_ns"])


def whole(iter_dir: str, *folders: Path) -> None:
    """Look for every shard that the index names, in the first folder that has it.

    Args:
        iter_dir: Name of the folder of shards; "" where there are none.
        folders: Where files may lie.

    Raises:
        GatherError: Something is missing or short.
        RefusedGlobalError: The index names something that no checkpoint holds.
    """
    if not iter_dir:
        return
    name = f"{iter_dir}/{torch_dist_index.INDEX}"
    index = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if index is None:
        raise GatherError(
            f"{name} of a node",
            "none",
            str(folders[-1]),
            "the node of rank 0 writes it; look there with swiftops ckpt ls",
        )
    try:
        needed = torch_dist_index.needed_files(torch_dist_index.load_index(index))
    except torch_dist_index.RefusedGlobalError:
        raise
    except torch_dist_index.TorchDistError as error:
        raise GatherError("an index of shards", str(error), name, "gather it anew") from error
    lacking = []
    for shard, least in needed.items():
        here = [folder / iter_dir / shard for folder in folders]
        size = next((path.stat().st_size for path in here if path.is_file()), None)
        if size is None or size < max(1, least):
            lacking.append(f"{shard} ({'missing' if size is None else f'{size} of {least} bytes'})")
    if lacking:
        raise GatherError(
            f"all {len(needed)} shards that the index names",
            f"{len(lacking)} not: {', '.join(lacking[:_SHOWN])}",
            str(folders[-1]),
            "see which node has them (swiftops ckpt ls), or gather another iteration; what has "
            "arrived is kept",
        )
