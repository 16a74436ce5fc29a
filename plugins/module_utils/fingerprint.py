# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A file's or a folder's fingerprint, within a bound on what is read.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from . import manifest

MOST_FILES = 2000
_ROWS = (".jsonl", ".json", ".csv", ".txt")


def take(path: str, limit: int, *, hidden: bool = True) -> dict[str, Any]:
    """Return what a path holds: names, sizes, and hashes as far as the bound allows.

    The smallest files are hashed first, so that what tells most of a model (its config,
    its tokenizer) is hashed even where its weights are too large.

    Args:
        path: A file or a folder.
        limit: Bytes to read and hash at most.
        hidden: Count files of a folder whose name, or whose folder's, begins with a dot; hubs
            keep times of their downloads in such.

    Returns:
        `path`, `bytes`, `files` (relative name to `bytes` and `blake2b`, at most 2000, the
        rest counted in `left_out`), `rows` (lines of a text file that are not blank), `whole`
        (whether every file was hashed) and `blake2b`: of all names, sizes and hashes.

    Raises:
        ManifestError: Something is not there, cannot be read, or is written to.
    """
    listed = manifest.build(path, hashed=False)
    if listed["missing"]:
        raise manifest.ManifestError(f"expected a file or a folder, found none: {path}")
    root, sizes = Path(listed["folder"]), listed["files"]
    if not hidden and Path(path).is_dir():
        sizes = {name: entry for name, entry in sizes.items() if "/." not in f"/{name}"}
    rest, files = limit, {}
    for name in sorted(sizes, key=lambda name: (sizes[name]["size"], name)):
        size, digest = sizes[name]["size"], None
        if size <= rest:
            rest -= size
            digest = manifest.describe(root / name)["blake2b"]
        files[name] = {"bytes": size, "blake2b": digest}
    ordered = {name: files[name] for name in sorted(files)}
    told: dict[str, Any] = {
        "path": path,
        "bytes": sum(entry["size"] for entry in sizes.values()),
        "files": dict(list(ordered.items())[:MOST_FILES]),
        "left_out": max(0, len(ordered) - MOST_FILES),
        "whole": all(entry["blake2b"] for entry in ordered.values()),
        "blake2b": _digest(ordered),
    }
    if Path(path).is_file() and path.endswith(_ROWS) and listed["bytes"] <= limit:
        with Path(path).open("rb") as file:
            told["rows"] = sum(1 for line in file if line.strip())
    return told


def _digest(files: dict[str, Any]) -> str:
    text = json.dumps(files, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=manifest.DIGEST_SIZE).hexdigest()
