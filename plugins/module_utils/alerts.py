# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a training should be looked at for: a loss that is NaN or leaps, a disk that fills.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import progress

Alert = dict[str, Any]
"""`kind` (nan, spike or disk), `detail`, `node`, `step` (int or None), `at` (epoch seconds)."""

MOST = 50
LEAST_STEPS = 20
DISK_SECONDS = 30.0
_TO_SIGMA = 1.4826  # of a normal distribution, median absolute deviation to standard deviation
_LEAST_SPREAD = 0.05  # of the median: a flat loss must not make every ripple a spike
_GIB = 1024**3


class Watch:
    """Looks at a training's log and at the disk that its checkpoints go to.

    Args:
        settings: `spike` (deviations; 0 for never), `window` (steps), `output` (folder of the
            checkpoints, or None), `save_every`, `iterations`, `keep` (or None).
        progress_file: Where the training logs its steps, or None where it logs none here.
        node: This node's name.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        progress_file: str | None,
        node: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._node, self._clock = settings, node, clock
        self._file = Path(progress_file) if progress_file else None
        self._read = self._size()
        self._spike = Spike(float(settings.get("spike") or 0), int(settings.get("window") or 50))
        self._told: set[str] = set()
        self._disk_at: float | None = None
        self.found: list[Alert] = []

    def look(self) -> list[Alert]:
        """Return what is new since the last look."""
        before = len(self.found)
        for line in self._lines():
            self._line(line)
        now = self._clock()
        if self._disk_at is None or now - self._disk_at >= DISK_SECONDS:
            self._disk_at = now
            self._disk()
        return self.found[before:]

    def _line(self, line: str) -> None:
        record = progress.parse_line(line)
        if record is None:
            return
        step = record["step"]
        for name in progress.not_finite(line):
            self._once(name, "nan", f"{name} is not a number at step {step}", step)
        if record["loss"] is not None:
            usual = self._spike.take(record["loss"])
            if usual is not None:
                told = f"loss {record['loss']:.4g} at step {step}, the usual is {usual:.4g}"
                self._add("spike", told, step)

    def _disk(self) -> None:
        output = self._settings.get("output")
        if not output or "disk" in self._told:
            return
        try:
            found = os.statvfs(output)
            saved = checkpoints(output)
        except OSError:
            return  # not made yet
        sizes = list(saved.values())
        step = max(saved, default=None)
        told = forecast(found.f_bavail * found.f_frsize, sizes, step, self._settings)
        if told:
            self._once("disk", "disk", f"{told}; the folder is {output}", step)

    def _once(self, key: str, kind: str, detail: str, step: int | None) -> None:
        if key not in self._told:
            self._told.add(key)
            self._add(kind, detail, step)

    def _add(self, kind: str, detail: str, step: int | None) -> None:
        if len(self.found) < MOST:
            at = round(time.time(), 3)
            self.found.append(
                {"kind": kind, "detail": detail, "node": self._node, "step": step, "at": at}
            )

    def _size(self) -> int:
        try:
            return self._file.stat().st_size if self._file else 0
        except OSError:
            return 0

    def _lines(self) -> list[str]:
        """Return the whole lines that were added; what is half written is read next time."""
        size = self._size()
        if self._file is None or size == self._read:
            return []
        if size < self._read:  # written anew
            self._read = 0
        with self._file.open("rb") as file:
            file.seek(self._read)
            data = file.read(size - self._read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


class Spike:
    """Tells a loss that leaps from one that wavers.

    A spike lies more than ``deviations`` robust standard deviations above the median of the last
    ``window`` losses. Several in a row are told once.
    """

    def __init__(self, deviations: float, window: int) -> None:
        self._deviations = deviations
        self._losses: deque[float] = deque(maxlen=window)
        self._above = False

    def take(self, loss: float) -> float | None:
        """Return the median where ``loss`` is a spike, else None."""
        usual = None
        if self._deviations > 0 and len(self._losses) >= LEAST_STEPS:
            median = statistics.median(self._losses)
            spread = _TO_SIGMA * statistics.median(abs(one - median) for one in self._losses)
            limit = median + self._deviations * max(spread, _LEAST_SPREAD * abs(median))
            above, before = loss > limit, self._above
            self._above = above
            usual = median if above and not before else None
        self._losses.append(loss)
        return usual


def checkpoints(output: str) -> dict[int, int]:
    """Return the step and the bytes on this node of every checkpoint in a folder."""
    found = {}
    for entry in Path(output).iterdir():
        name, _, number = entry.name.partition("-")
        if name == "checkpoint" and number.isdigit() and entry.is_dir():
            files = [file for file in entry.rglob("*") if file.is_file()]
            found[int(number)] = sum(file.stat().st_size for file in files)
    return found


def forecast(
    free: int, sizes: list[int], step: int | None, settings: Mapping[str, Any]
) -> str | None:
    """Tell when checkpoints will fill the disk, or None where they fit, or none was seen yet.

    Args:
        free: Bytes that may still be written.
        sizes: Bytes of each checkpoint that is there.
        step: The step of the last one.
        settings: `save_every`, `iterations` and `keep`, each a number or None.
    """
    size = max(sizes, default=0)
    if not size or step is None:
        return None
    every, end, keep = (settings.get(name) for name in ("save_every", "iterations", "keep"))
    ahead = None if not every or not end else max(0, -(-(end - step) // every))
    if keep:  # upstream saves the new one before it removes the oldest
        more = max(0, keep + 1 - len(sizes))
        ahead = more if ahead is None else min(ahead, more)
    fit = free // size
    if ahead is None:
        if fit:
            return None
    elif ahead <= fit:
        return None
    when = f"full in about {(fit + 1) * every} steps" if every else "full at the next checkpoint"
    count = "" if ahead is None else f"{ahead} more to come, "
    return (
        f"the disk will be {when}: a checkpoint takes {size / _GIB:.3g} GiB here, {count}"
        f"{free / _GIB:.3g} GiB are free"
    )
