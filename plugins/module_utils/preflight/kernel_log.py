# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What the kernel said of GPUs, disks and memory: lines of dmesg, told apart.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

SECONDS = 20
MOST = 50  # lines of a kind
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\):\s*(\d+),?\s*(.*)")
_OFF_THE_BUS = re.compile(r"NVRM: The NVIDIA GPU ([0-9a-fA-F:.]+)")
_STAMP = re.compile(r"^\s*\[\s*([\d.]+)\]\s*")
_OTHER = {
    "oom": re.compile(r"Out of memory: Killed process (\d+) \(([^)]*)\)"),
    "read_only": re.compile(r"Remounting filesystem read-only"),
    "disk": re.compile(r"I/O error, dev (\w+)|nvme nvme\d+: controller is down"),
    "iommu": re.compile(r"(?:DMAR|AMD-Vi).*(?:fault|IO_PAGE_FAULT)", re.IGNORECASE),
}


def look() -> dict[str, Any]:
    """Return the lines that matter; `error` where the kernel's log may not be read."""
    try:
        done = subprocess.run(
            ["dmesg"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return {"error": str(problem), "xid": [], "other": []}
    if done.returncode:
        return {"error": done.stderr.strip()[:200], "xid": [], "other": []}
    return {"error": "", **parse(done.stdout)}


def parse(text: str) -> dict[str, Any]:
    """Read a kernel log: `xid` and `other` lines, the latest ones.

    Returns:
        `xid`: `gpu` (PCI address), `code`, `detail`, `at` (seconds after boot, or None).
        `other`: `kind` (oom, read_only, disk, iommu), `line`, `at`.
    """
    xid: list[dict[str, Any]] = []
    other: list[dict[str, Any]] = []
    lost = ""
    for line in text.splitlines():
        stamp = _STAMP.match(line)
        at = float(stamp[1]) if stamp else None
        found = _XID.search(line)
        if found:
            code, detail = int(found[2]), found[3].strip()
            xid.append({"gpu": found[1], "code": code, "detail": detail, "at": at})
            continue
        gone = _OFF_THE_BUS.search(line)
        lost = gone[1] if gone else lost
        if lost and "fallen off the bus" in line:  # newer drivers say so in three lines
            detail = "GPU has fallen off the bus"
            xid.append({"gpu": lost, "code": 79, "detail": detail, "at": at})
            lost = ""
            continue
        kind = next((name for name, pattern in _OTHER.items() if pattern.search(line)), "")
        if kind:
            other.append({"kind": kind, "line": line[stamp.end() if stamp else 0 :], "at": at})
    return {"xid": xid[-MOST:], "other": other[-MOST:]}
