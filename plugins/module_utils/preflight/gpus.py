# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""GPUs, their driver, their errors and who uses them, out of what nvidia-smi prints.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 30
# The first five are there in every driver; what a driver or a GPU does not know reads [N/A].
FIELDS = (
    "index",
    "uuid",
    "name",
    "memory.total",
    "driver_version",
    "ecc.errors.uncorrected.volatile.total",
    "mig.mode.current",
    "persistence_mode",
)
PROCESS_FIELDS = ("pid", "gpu_uuid", "used_memory", "process_name")
ROW_FIELDS = ("gpu_uuid", "remapped_rows.pending", "remapped_rows.failure")
MODULE_VERSION = Path("/proc/driver/nvidia/version")
_CUDA = re.compile(r"CUDA Version\s*:\s*(\d+\.\d+)")
_KERNEL_MODULE = re.compile(r"Kernel Module\s+(?:for \S+\s+)?(\d+\.[\d.]+)")
_NOTHING = ("[n/a]", "n/a", "[not supported]", "[unknown error]", "")


def look() -> dict[str, Any]:
    """Return what nvidia-smi says; `program` is empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {"program": ""}
    banner = _said([program])
    asked = _said([program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"])
    found: dict[str, Any] = {
        "program": program,
        "error": "" if asked[0] == 0 else _last(asked[1]),
        "gpus": parse_gpus(asked[1]) if asked[0] == 0 else [],
        "cuda": parse_cuda(banner[1]),
        "kernel_module": kernel_module(),
    }
    if asked[0] == 0:
        words = [program, "--format=csv,noheader,nounits"]
        rows = _said([*words, f"--query-remapped-rows={','.join(ROW_FIELDS)}"])
        remapped = parse_remapped(rows[1]) if rows[0] == 0 else {}
        for gpu in found["gpus"]:
            gpu.update(remapped.get(gpu["uuid"], {}))
        users = _said([*words, f"--query-compute-apps={','.join(PROCESS_FIELDS)}"])
        found["processes"] = parse_processes(users[1]) if users[0] == 0 else []
    return found


def parse_gpus(text: str) -> list[dict[str, Any]]:
    """Read the rows of --query-gpu, without header and units; MiB become bytes."""
    found = []
    for row in _rows(text, len(FIELDS)):
        index, uuid, name, memory, driver, ecc, mig, persistence = row
        found.append(
            {
                "index": int(index),
                "uuid": uuid,
                "name": name,
                "memory_bytes": (_number(memory) or 0) << 20,
                "driver": driver,
                "uncorrected": _number(ecc),
                "mig": mig.lower() == "enabled",
                "persistence": persistence.lower() == "enabled",
            }
        )
    return found


def parse_remapped(text: str) -> dict[str, dict[str, bool]]:
    """Read the rows of --query-remapped-rows: uuid to `pending` and `failure`."""
    return {
        uuid: {"pending": _yes(pending), "failure": _yes(failure)}
        for uuid, pending, failure in _rows(text, len(ROW_FIELDS))
    }


def parse_processes(text: str) -> list[dict[str, Any]]:
    """Read the rows of --query-compute-apps."""
    return [
        {
            "pid": int(pid),
            "gpu": uuid,
            "memory_bytes": (_number(memory) or 0) << 20,
            "program": program,
        }
        for pid, uuid, memory, program in _rows(text, len(PROCESS_FIELDS))
    ]


def parse_cuda(text: str) -> str:
    """Return the newest CUDA that the driver runs, from nvidia-smi's banner."""
    found = _CUDA.search(text)
    return found[1] if found else ""


def kernel_module(path: Path = MODULE_VERSION) -> str:
    """Return the version of the loaded kernel module."""
    try:
        found = _KERNEL_MODULE.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def _rows(text: str, columns: int) -> list[list[str]]:
    """Split rows at commas; a program's name, the last column, may hold some."""
    rows = [line.split(",", columns - 1) for line in text.splitlines()]
    parts = [[cell.strip() for cell in row] for row in rows if len(row) == columns]
    return [row for row in parts if row[0].lower() not in _NOTHING]


def _number(text: str) -> int | None:
    try:
        return int(float(text.split(maxsplit=1)[0]))
    except (ValueError, IndexError):
        return None


def _yes(text: str) -> bool:
    return text.lower() in ("yes", "1")


def _said(argv: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return 127, str(problem)
    return done.returncode, done.stdout


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-2:])
