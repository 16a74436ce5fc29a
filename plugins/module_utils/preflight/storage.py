# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Shared memory and disks: how large, how much is free, whether they can be written.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# The controller imports this under another name, to look at local nodes without Ansible.
from .. import fingerprint, manifest  # noqa: TID252 as said

INPUT_BYTES = 64 << 20  # of each input, to be read and hashed; of what is larger sizes tell
SHM = "/dev/shm"  # noqa: S108 looked at only
MEMORY_MAX = (  # of cgroups of version 2, and 1
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
_WEIGHTS = (".safetensors", ".bin")


def shm(path: str = SHM) -> dict[str, Any]:
    """Return size and free bytes of /dev/shm."""
    try:
        found = os.statvfs(path)
    except OSError as problem:
        return {"size": 0, "free": 0, "error": str(problem)}
    return {
        "size": found.f_blocks * found.f_frsize,
        "free": found.f_bavail * found.f_frsize,
        "error": "" if os.access(path, os.W_OK) else f"{path} cannot be written",
    }


def disks(paths: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the file system of each path, or of the nearest folder above it that exists.

    Args:
        paths: What it is for, such as `root`, to an absolute path.
    """
    return {name: disk(path) for name, path in paths.items()}


def disk(path: str) -> dict[str, Any]:
    """Return where a path lies, how much is free there, and whether this user may write."""
    place = Path(path)
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        found, status = os.statvfs(place), place.stat()
    except OSError as problem:
        return {"path": path, "error": str(problem)}
    return {
        "path": path,
        "place": str(place),
        "exists": os.path.lexists(path),
        "filesystem": f"{os.uname().nodename}:{status.st_dev}",
        "mount": mount_of(str(place)),
        "free": found.f_bavail * found.f_frsize,
        "total": found.f_blocks * found.f_frsize,
        "inodes_free": found.f_favail if found.f_files else None,
        "writable": os.access(place, os.W_OK | os.X_OK),
        "error": "",
    }


def mount_of(path: str, table: str = "/proc/self/mounts") -> dict[str, str]:
    """Return `point`, `type` and `source` of the mount that a path lies on."""
    real, best = os.path.realpath(path), {"point": "", "type": "", "source": ""}
    for line in Path(table).read_text(encoding="utf-8", errors="replace").splitlines():
        source, point, kind = line.split()[:3]
        point = point.replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best["point"]):
            best = {"point": point, "type": kind, "source": source}
    return best


def model(path: str) -> dict[str, Any]:
    """Return bytes of a model's weights, and the dtype that its config names."""
    folder = Path(path)
    try:
        names = [name for name in folder.iterdir() if name.suffix in _WEIGHTS]
        weights = sum(name.stat().st_size for name in names)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"bytes": 0, "dtype": ""}
    text = config.get("text_config") or {}
    dtype = config.get("torch_dtype") or config.get("dtype") or text.get("dtype") or ""
    return {"bytes": weights, "dtype": str(dtype)}


def inputs(paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return, of each file or folder, what tells it from another: bytes, rows, a hash."""
    found = {}
    for path in paths:
        try:
            told = fingerprint.take(path, INPUT_BYTES, hidden=False)
        except (OSError, manifest.ManifestError) as problem:
            found[path] = {"error": str(problem)}
        else:
            found[path] = {name: told.get(name) for name in ("bytes", "rows", "blake2b")}
    return found


def memory() -> dict[str, int]:
    """Return bytes of main memory and what is available, and the container's limit if any."""
    found = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[0] in ("MemTotal:", "MemAvailable:"):
            found[words[0][3:-1].lower()] = int(words[1]) * 1024
    limit = first_number(MEMORY_MAX)
    return {**found, "limit": limit or 0}


def first_number(paths: Iterable[str]) -> int | None:
    """Return the number in the first file that holds one ("max" is none)."""
    for path in paths:
        try:
            return int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None
