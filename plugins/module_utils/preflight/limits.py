# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Limits as a job of this login gets them: it is started by a process like this one.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import resource
from typing import Any

from . import storage

_NAMES = {
    "memlock": resource.RLIMIT_MEMLOCK,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "stack": resource.RLIMIT_STACK,
}
_CAP_IPC_LOCK = 14
PIDS_MAX = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")  # of version 2, and 1


def look() -> dict[str, Any]:
    """Return soft and hard limits (-1 is none), and what else holds processes back."""
    limits = {name: list(resource.getrlimit(number)) for name, number in _NAMES.items()}
    return {
        "limits": limits,
        "user": os.geteuid(),
        "infiniband": infiniband(),
        "ipc_lock": has_capability(_CAP_IPC_LOCK),
        "pids_max": storage.first_number(PIDS_MAX),
        "threads_max": storage.first_number(("/proc/sys/kernel/threads-max",)),
        "processors": len(os.sched_getaffinity(0)),
    }


def has_capability(number: int) -> bool:
    """Tell whether this process has a Linux capability in effect."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def infiniband(folder: str = "/sys/class/infiniband") -> list[str]:
    """Return the adapters that need memory to be locked."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 names are enough
    except OSError:
        return []
