# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Say which processes of a node use a folder: name it in their arguments, or hold a file open.

Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc")


def users(folders: Sequence[str], proc: Path = PROC) -> dict[str, list[str]]:
    """Return folder to the processes that use it or what is in it.

    The caller's own process and its ancestors count for none: they were told to look; so were
    other nodes' modules of the same play, where nodes share a machine and a disk.

    Args:
        folders: Absolute paths.
        proc: Where the process file system lies.
    """
    found: dict[str, list[str]] = {folder: [] for folder in folders}
    wanted = {folder: {folder, os.path.realpath(folder)} for folder in folders}
    own = _lineage(os.getpid(), proc)
    play = _play(own, proc)
    for pid in sorted(set(_numbers(proc)) - set(own)):
        if play is not None and play in _lineage(pid, proc):
            continue
        words, opened = _words(proc / str(pid)), _opened(proc / str(pid))
        for folder, names in wanted.items():
            if any(_names(word, name) for word in words for name in names):
                how = "names it"
            elif any(_below(path, name) for path in opened for name in names):
                how = "has a file of it open"
            else:
                continue
            program = Path(words[0]).name if words else "a process"
            found[folder].append(f"{program} (pid {pid}) {how}")
    return found


def _numbers(proc: Path) -> list[int]:
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]


def _play(lineage: Sequence[int], proc: Path) -> int | None:
    """Return the process of the play in a lineage, nearest first; None without one.

    A play's workers are forks of it and bear its name: the last of those in a row is the play.
    """
    play = None
    for pid in lineage:
        if _is_play(proc / str(pid)):
            play = pid
        elif play is not None:
            break
    return play


def _is_play(process: Path) -> bool:
    return any(Path(word).name == "ansible-playbook" for word in _words(process)[:2])


def _lineage(pid: int, proc: Path) -> list[int]:
    """Return a process and its ancestors, the nearest first."""
    found: list[int] = []
    while pid > 0 and pid not in found:
        found.append(pid)
        try:
            text = (proc / str(pid) / "stat").read_text("ascii", "replace")
            pid = int(text.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def _words(process: Path) -> list[str]:
    try:
        data = (process / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in data.split(b"\0") if word]


def _opened(process: Path) -> list[str]:
    found = []
    try:
        for entry in (process / "fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except OSError:  # closed in between
                continue
    except OSError:  # ended, or another user's
        return []
    return found


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _names(word: str, folder: str) -> bool:
    """Tell whether an argument, or the value of ``--flag=value``, is a folder or lies in it."""
    values = (word, word.partition("=")[2], word.rpartition(":")[2])
    return any(_below(value, folder) for value in values)
