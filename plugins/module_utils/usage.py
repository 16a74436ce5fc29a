# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a job's processes use of the node: CPU time, memory, and its GPUs.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .process_tree import Identity

SECONDS = 5.0
GPU_SECONDS = 10.0
_ASK_SECONDS = 5.0
_QUERY = "index,uuid,utilization.gpu,memory.used,memory.total"
_UTIME, _STIME = 11, 12  # positions after the command name in /proc/PID/stat
_MIB = 1024 * 1024
_COLUMNS = 5


class Meter:
    """Measures a job now and then.

    Args:
        path: Where to look for nvidia-smi, as in PATH.
        visible: The job's CUDA_VISIBLE_DEVICES; None where all GPUs are its own.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, path: str, visible: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._program = None if visible in ("", "-1") else shutil.which("nvidia-smi", path=path)
        self._visible, self._clock = visible, clock
        self._at: float | None = None
        self._asked: float | None = None
        self._ticks: dict[Identity, int] = {}
        self._gpus: list[dict[str, Any]] = []

    def look(self, processes: Sequence[Identity]) -> dict[str, Any] | None:
        """Return `cpu_percent` (100 is one core), `memory_bytes`, `gpus`; None before it is time.

        Memory is the sum of resident sets: pages that processes share count for each.
        """
        now = self._clock()
        if self._at is not None and now - self._at < SECONDS:
            return None
        passed, first = now - (self._at or now), self._at is None
        ticks = {process: _ticks(process.pid) for process in processes}
        used = sum(count - self._ticks.get(process, 0) for process, count in ticks.items() if count)
        self._at, self._ticks = now, ticks
        if first:
            return None
        if self._program and (self._asked is None or now - self._asked >= GPU_SECONDS):
            self._asked = now
            self._gpus = self._ask(self._program)
        return {
            "cpu_percent": round(100 * used / os.sysconf("SC_CLK_TCK") / passed, 1),
            "memory_bytes": sum(_resident(process.pid) for process in processes),
            "gpus": self._gpus,
        }

    def _ask(self, program: str) -> list[dict[str, Any]]:
        argv = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            self._program = None  # a driver that does not answer is not asked again and again
            return []
        return gpus(done.stdout, self._visible)


def gpus(text: str, visible: str | None) -> list[dict[str, Any]]:
    """Read what nvidia-smi tells of the GPUs that the job may see.

    Args:
        text: Lines of index, uuid, utilisation in percent, used and total memory in MiB.
        visible: CUDA_VISIBLE_DEVICES, of indices or of uuids; None for all.
    """
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) != _COLUMNS or not words[0].isdigit():
            continue
        index, uuid, *numbers = words
        if wanted is not None and not any(_means(word, index, uuid) for word in wanted):
            continue
        busy, used, total = (_whole(number) for number in numbers)
        found.append(
            {
                "index": int(index),
                "utilisation_percent": busy,
                "memory_used_bytes": None if used is None else used * _MIB,
                "memory_total_bytes": None if total is None else total * _MIB,
            }
        )
    return found


def _means(word: str, index: str, uuid: str) -> bool:
    return word == index or (not word.isdigit() and bool(word) and uuid.startswith(word))


def _whole(word: str) -> int | None:
    return int(word) if word.isdigit() else None  # "[N/A]" where a card does not tell


def busy(processes: Iterable[Identity]) -> dict[Identity, int]:
    """Return the clock ticks of CPU time that each process has used."""
    return {process: _ticks(process.pid) for process in processes}


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[_UTIME]) + int(fields[_STIME])


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
