# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What machine this node is: kernel, processors, memory, GPUs and their driver.

Standard library only, Python 3.9 or newer. What cannot be found out is left out.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

_SMI_SECONDS = 20
_SMI_FIELDS = ("name", "memory.total", "driver_version")


def look() -> dict[str, Any]:
    """Return the facts of this machine."""
    facts = {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "os": _os_name(),
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        **gpus(),
    }
    return {name: value for name, value in facts.items() if value}


def gpus() -> dict[str, Any]:
    """Return `gpus`, as names with memory, and `driver`; empty without nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    ask = [program, f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=_SMI_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.split(", ") for line in done.stdout.splitlines()]
    whole = [row for row in rows if len(row) == len(_SMI_FIELDS)]
    drivers = sorted({row[2] for row in whole})
    return {"gpus": [f"{row[0]}, {row[1]}" for row in whole], "driver": " | ".join(drivers)}


def _os_name() -> str:
    return _first(Path("/etc/os-release"), r'^PRETTY_NAME="?([^"\n]*)"?$')


def _processor() -> str:
    return _first(Path("/proc/cpuinfo"), r"^model name\s*:\s*(.*)$")


def _first(path: Path, pattern: str) -> str:
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        return ""
    return found[1].strip() if found else ""
