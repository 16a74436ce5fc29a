# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Read a job's log: its last lines, what came since the last look, or since a time.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_MOST_BYTES = 1024 * 1024
_NOTE_SECONDS = 5.0
_TICK = 0.02  # files are dated by a clock that lags so much behind time.time()


class Times:
    """Notes how long a log was when, one line a note, since its own lines bear no time.

    Args:
        log: The log.
        notes: Where to note it; seconds since the epoch and bytes.
    """

    def __init__(self, log: Path, notes: Path) -> None:
        self._log = log
        self._notes = notes
        self._size = 0
        self._noted_at = -_NOTE_SECONDS

    def note(self, *, now: bool = False) -> None:
        """Note the length if it has changed and the last note is old enough, or ``now``."""
        clock = time.monotonic()
        if not now and clock - self._noted_at < _NOTE_SECONDS:
            return
        try:
            size = self._log.stat().st_size
            if size == self._size:
                return
            self._noted_at = clock
            with self._notes.open("a", encoding="ascii") as file:
                file.write(f"{time.time()} {size}\n")  # the time after the look: none is left out
        except FileNotFoundError:
            return  # nothing was written yet
        except OSError as error:  # the log matters more than its times
            print(f"could not note the log's length: {error}", file=sys.stderr, flush=True)  # noqa: T201
            return
        self._size = size


def offset_at(log: Path, notes: Path, moment: float) -> int:
    """Return how many bytes of a log were there at a moment, as far as it was noted.

    What came later is always after them; of what came before, some seconds may be. A log
    without notes came later as a whole, unless nothing was written to it since.
    """
    try:
        found, known = log.stat(), 0
        if found.st_mtime < moment - _TICK:
            return found.st_size
        with notes.open(encoding="ascii", errors="replace") as file:
            for line in file:
                at, _, size = line.partition(" ")
                if not line.endswith("\n") or float(at) > moment:
                    break
                known = int(size)
    except (FileNotFoundError, ValueError):
        return 0
    return known


def tail(path: Path, lines: int, start: int = 0) -> list[str]:
    """Return the last lines of a log; of a progress bar only what it showed last.

    Args:
        path: The log.
        lines: How many at most.
        start: Only what is after so many bytes.
    """
    if lines <= 0:
        return []
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _MOST_BYTES))
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


def more(path: Path, offset: int) -> bool:
    """Return whether there was more after an offset than `after` gives at once."""
    return path.stat().st_size - offset >= _MOST_BYTES


def _lines(data: bytes) -> list[str]:
    found = data.decode("utf-8", errors="replace").split("\n")
    if found and not found[-1]:
        found.pop()
    return [line.rstrip("\r").rsplit("\r", 1)[-1] for line in found]
