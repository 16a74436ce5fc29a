# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Who is at work on a node: our jobs, what they left, and others.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# The controller imports this under another name, to look at local nodes without Ansible.
from .. import job_state, listening, process_tree, shared_memory  # noqa: TID252 as said

MOST = 50
_MAIN_NAMESPACE = "pid:[4026531836]"


def look(root: str, gpu_processes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return our jobs that are not over, and whose the processes on GPUs are.

    Args:
        root: The node's own directory.
        gpu_processes: As `gpus.parse_processes` tells them.
    """
    marks = markers()
    jobs = list(jobs_of(root))
    known = {job["marker"]: job["directory"] for job in jobs}
    ours = {pid: known.get(mark, "") for pid, mark in marks.items()}
    own_pids = os.readlink("/proc/self/ns/pid") == _MAIN_NAMESPACE  # noqa: PTH115 no path
    return {
        "jobs": [job for job in jobs if job["state"] in ("starting", "running", "lost")],
        "marked": {str(pid): directory for pid, directory in ours.items()},
        "gpu": [{**item, **described(int(item["pid"]))} for item in gpu_processes],
        "pids_are_the_machines": own_pids,
        "shm": leftovers(),
    }


def markers() -> dict[int, str]:
    """Return the processes of jobs of ours that this user may look at, to their markers."""
    found = {}
    wanted = f"{process_tree.MARKER}=".encode()
    for name in os.listdir("/proc"):  # noqa: PTH208 names are enough
        if not name.isdigit():
            continue
        try:
            words = Path("/proc", name, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for word in words:
            if word.startswith(wanted):
                found[int(name)] = word[len(wanted) :].decode(errors="replace")
    return found


def jobs_of(root: str) -> Iterable[dict[str, Any]]:
    """Return the jobs below a root, with the state as anybody would find it."""
    for path in sorted(Path(root).glob("runs/*/jobs/*/state.json")):
        folder = job_state.JobFolder(str(path.parent))
        try:
            recorded = job_state.read_json(folder.state)
            state = str(recorded["state"])
            supervised = state in ("starting", "running") and job_state.is_locked(folder.lock)
            yield {
                "directory": str(path.parent),
                "run_id": path.parts[-4],
                "job": path.parts[-2],
                "marker": str(recorded["marker"]),
                "state": job_state.observed(state, supervised=supervised).value,
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue


def described(pid: int) -> dict[str, Any]:
    """Return whose a process is and what it runs; empty where it is not ours to see."""
    try:
        status = os.stat(f"/proc/{pid}")  # noqa: PTH116 plain text
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return {}
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    return {"user": user, "command": b" ".join(words).decode(errors="replace").strip()[:200]}


def leftovers() -> dict[str, Any]:
    """Return the segments of /dev/shm that no process here uses, as `count`, `bytes`, `names`."""
    segments = shared_memory.existing()
    unused = set(segments)
    if unused:
        for name in os.listdir("/proc"):  # noqa: PTH208 names are enough
            if name.isdigit():
                unused -= shared_memory.mapped_paths(int(name))
    sizes, now = {}, time.time()
    for path in unused:
        try:
            status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 plain text
        except OSError:
            continue
        if now - status.st_mtime > 60:  # noqa: PLR2004 a minute: it may be in the making
            sizes[path] = status.st_size
    names = sorted(sizes, key=lambda path: -sizes[path])[:MOST]
    return {"count": len(sizes), "bytes": sum(sizes.values()), "names": names}


def ports(wanted: Iterable[int]) -> list[dict[str, Any]]:
    """Return which of these ports are taken, where, and by whom as far as one may see."""
    numbers = set(wanted)
    taken = [item for item in listening.sockets() if item[1] in numbers]
    owners = owner_of({inode for _, _, inode in taken}) if taken else {}
    return [
        {"port": port, "address": address, **owners.get(inode, {})}
        for address, port, inode in taken
    ]


def owner_of(inodes: set[str]) -> dict[str, dict[str, Any]]:
    """Return which process holds each socket."""
    targets = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, dict[str, Any]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 names are enough
        if not name.isdigit():
            continue
        try:
            for entry in os.scandir(f"/proc/{name}/fd"):
                inode = targets.get(os.readlink(entry.path))  # noqa: PTH115 no path
                if inode is not None:
                    found[inode] = {"pid": int(name), **described(int(name))}
        except OSError:
            continue
    return found
