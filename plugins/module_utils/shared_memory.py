# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Segments in /dev/shm that a process tree made and left behind.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = "/dev/shm"  # noqa: S108 (the kernel's place for shared memory, only looked at)
_DELETED = " (deleted)"
_PATH_COLUMN = 5  # of /proc/PID/maps

Segments = dict[str, int]
"""Path of a segment -> its inode number; a path alone may be another's later."""


def existing() -> Segments:
    """Return the files that lie in /dev/shm now."""
    found: Segments = {}
    for folder, _, names in os.walk(FOLDER):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 (os.walk gives strings)
            try:
                found[path] = os.stat(path, follow_symlinks=False).st_ino  # noqa: PTH116 (as above)
            except OSError:
                continue
    return found


def mapped_paths(pid: int) -> set[str]:
    """Return the files that a process has mapped or holds open.

    Empty for a process that is gone or belongs to another user.
    """
    return _maps(pid) | opened_paths(pid)


def opened_paths(pid: int) -> set[str]:
    """Return the files that a process holds open, by name."""
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for name in os.listdir(folder):  # noqa: PTH208 (hot: every descendant, each look)
            try:
                target = os.readlink(f"{folder}/{name}")  # noqa: PTH115 (as above)
            except OSError:
                continue
            if target.startswith("/"):
                found.add(target)
    except OSError:
        return found
    return found


def _maps(pid: int) -> set[str]:
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return set()
    found = set()
    for line in text.splitlines():
        columns = line.split(None, _PATH_COLUMN)
        if len(columns) > _PATH_COLUMN and columns[_PATH_COLUMN].startswith("/"):
            found.add(columns[_PATH_COLUMN])
    return found


def used_by(pids: Iterable[int], before: Segments) -> Segments:
    """Return the segments that these processes use and that were made since `before`."""
    if all(before.get(path) == inode for path, inode in existing().items()):
        return {}  # nothing new: spare the processes, whose maps are long on a GPU
    names: set[str] = set()
    for pid in pids:
        names |= {
            path
            for path in mapped_paths(pid)
            if path.startswith(FOLDER + "/") and not path.endswith(_DELETED)
        }
    found: Segments = {}
    for path in names:
        try:
            inode = os.stat(path, follow_symlinks=False).st_ino  # noqa: PTH116 (strings here)
        except OSError:
            continue
        if before.get(path) != inode:
            found[path] = inode
    return found


def remove_unused(segments: Segments) -> list[str]:
    """Unlink those segments that no process uses any more.

    A path whose inode differs belongs to somebody else by now and is left alone.

    Returns:
        The paths that were removed, sorted.
    """
    present = existing()
    candidates = {path for path, inode in segments.items() if present.get(path) == inode}
    if not candidates:
        return []
    for name in os.listdir("/proc"):  # noqa: PTH208 (all processes)
        if name.isdigit():
            candidates -= mapped_paths(int(name))
    removed = []
    for path in sorted(candidates):
        try:
            os.unlink(path)  # noqa: PTH108 (strings here)
        except FileNotFoundError:
            continue
        removed.append(path)
    return removed
