# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A folder of fetched files on a node: whole under its name, or in a staging folder beside it.

Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest

Files = Mapping[str, Mapping[str, Any]]


class FetchedError(Exception):
    """A folder cannot be given its name; the sentence says why and what to do."""


class Place(NamedTuple):
    """Where a folder and what belongs to it lie.

    Attributes:
        folder: Its name once it is whole.
        staging: Where it is filled.
        record: JSON: what it holds, under ``files``.
    """

    folder: Path
    staging: Path
    record: Path


def recorded(place: Place) -> dict[str, manifest.FileEntry]:
    """Return the files that the record names; none where there is no record that can be read."""
    try:
        found = json.loads(place.record.read_text(encoding="utf-8"))
        return manifest.validated(found["files"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, manifest.ManifestError):
        return {}


def holds(folder: Path, files: Files) -> bool:
    """Tell by sizes and times, without reading, whether ``folder`` holds exactly these files."""
    if not files or not folder.is_dir():
        return False
    names, _ = manifest.walk(folder)
    if set(names) != set(files):
        return False
    return all(_is_as(folder / name, entry) for name, entry in files.items())


def _is_as(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (entry["size"], entry["mtime_ns"])


def look(place: Place, source: Files | None) -> dict[str, Any]:
    """Return what a node holds of it.

    Args:
        place: The folder.
        source: What the source holds (hashes are not looked at), or None where only the hub
            knows.

    Returns:
        ``complete``; ``present``, whether there is a folder; ``files`` as recorded; ``lacking``,
        the bytes that are still to come where the source is known; ``free``, the bytes that are
        free on the disk; ``room``, those and what is here already.
    """
    files = recorded(place)
    complete = holds(place.folder, files)
    if source is not None:
        complete = complete and _sizes(files) == _sizes(source)
    here = 0 if complete else _here(place, source)
    total = 0 if source is None else sum(entry["size"] for entry in source.values())
    free = _free(place.folder)
    return {
        "complete": complete,
        "present": place.folder.is_dir(),
        "files": files,
        "lacking": 0 if complete else max(0, total - here),
        "free": free,
        "room": free + here,
    }


def _here(place: Place, source: Files | None) -> int:
    """Bytes that need not come any more: staged ones, or what a new staging folder links."""
    if place.staging.is_dir():
        return sum(path.stat().st_size for path in place.staging.rglob("*") if path.is_file())
    return sum(
        int(entry["size"])
        for name, entry in (source or {}).items()
        if _is_as(place.folder / name, entry)
    )


def _sizes(files: Files) -> dict[str, tuple[int, int]]:
    return {name: (entry["size"], entry["mtime_ns"]) for name, entry in files.items()}


def _free(place: Path) -> int:
    while not place.exists():
        place = place.parent
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def stage(place: Place) -> bool:
    """Make the staging folder; a new one begins with links to the files that are there already.

    A pull replaces a file that differs by another one, so that the folder stays as it is.
    """
    if place.staging.is_dir():
        return False
    place.staging.mkdir(parents=True)
    names = manifest.walk(place.folder)[0] if place.folder.is_dir() else []
    for name in names:
        target = place.staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(place.folder / name, target)
    return True


def settle(place: Place, source: Files | None) -> bool:
    """Give the staging folder its name, if it holds what it must; return whether it was done.

    Args:
        place: The folder.
        source: What it must hold, proven already by whoever filled it; what its record says
            where it is None.

    Raises:
        FetchedError: it holds something else.
    """
    files = recorded(place) if source is None else dict(source)
    if not place.staging.is_dir() and holds(place.folder, files):
        return False
    _drop_others(place.staging, files)
    if not files or not holds(place.staging, files):
        raise FetchedError(
            f"expected {len(files)} files in {place.staging}, as its source lists them, found "
            "others. Run the stage again: what is right is kept"
        )
    if source is not None:
        _write(place.record, {"files": files})
    old = place.staging.with_name(f"{place.staging.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.folder.exists():
        place.folder.rename(old)
    place.staging.rename(place.folder)
    shutil.rmtree(old, ignore_errors=True)
    return True


def _drop_others(staging: Path, files: Files) -> None:
    for name in manifest.walk(staging)[0] if staging.is_dir() else ():
        if name not in files:
            (staging / name).unlink()


def _write(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
