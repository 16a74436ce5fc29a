# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Read a job's log: its last lines, or what came since the last look.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
from pathlib import Path

_MOST_BYTES = 1024 * 1024


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log; of a progress bar only what it showed last."""
    if lines <= 0:
        return []
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _MOST_BYTES))
            data = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return []
    return _lines(data)[-lines:]


def after(path: Path, offset: int, *, ended: bool) -> tuple[list[str], int]:
    """Return the whole lines after an offset, and the offset to go on from.

    A log that is shorter than the offset is a new attempt's, and is read from its start.

    Args:
        path: The log.
        offset: Bytes that are known already; at most 1 MiB after them is read.
        ended: Whether nothing more will be written, so that the last line counts unended.
    """
    try:
        with path.open("rb") as file:
            if offset > file.seek(0, os.SEEK_END):
                offset = 0
            file.seek(offset)
            data = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return [], 0
    full = len(data) == _MOST_BYTES
    whole = data.rfind(b"\n") + 1
    if (ended and not full) or (full and not whole):
        whole = len(data)
    return _lines(data[:whole]), offset + whole


def _lines(data: bytes) -> list[str]:
    found = data.decode("utf-8", errors="replace").split("\n")
    if found and not found[-1]:
        found.pop()
    return [line.rstrip("\r").rsplit("\r", 1)[-1] for line in found]
