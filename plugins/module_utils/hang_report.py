# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a hung job's ranks on this node were doing, as data: `hang.json` in the job's folder.

Which of all nodes' ranks holds the others up is concluded on the controller, which sees them all.
Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import job_log
from .process_tree import Identity, read_stat

MOST_FRAMES = 12
MOST_LINES = 40
_LOG_LINES = 4000
_LINE_CHARACTERS = 400
_COMMUNICATION = re.compile(
    r"NCCL (INFO|WARN|ERROR)|\bgloo\b|ProcessGroup|[Ww]atchdog|TCPStore|c10d|torch\.distributed"
    r"|collective",
    re.IGNORECASE,
)
_DUMPED = re.compile(r"^# process (\d+) ", re.MULTILINE)
_THREAD = re.compile(r'^Thread .*?(?:"(.*)")?$')
_FRAME = re.compile(r"^\s+(\S.*) \((.+?)(?::(\d+))?\)$")

Report = dict[str, Any]


def collective_lines(log: Path) -> list[str]:
    """The last lines of NCCL, Gloo and torch's process groups in a job's log."""
    lines = [line for line in job_log.tail(log, _LOG_LINES) if _COMMUNICATION.search(line)]
    return [line[:_LINE_CHARACTERS] for line in lines[-MOST_LINES:]]


def frames(dump: str) -> list[str]:
    """Frames of the main thread in a dump of py-spy, the innermost first: `function (file)`.

    Where no thread is called MainThread, the first thread's.
    """
    threads: list[tuple[str, list[str]]] = []
    for line in dump.splitlines():
        thread = _THREAD.match(line)
        if thread is not None:
            threads.append((thread.group(1) or "", []))
            continue
        frame = _FRAME.match(line)
        if frame is not None and threads:
            threads[-1][1].append(f"{frame.group(1)} ({frame.group(2)})")
    main = [found for name, found in threads if name == "MainThread"]
    chosen = main or [found for _, found in threads]
    return chosen[0][:MOST_FRAMES] if chosen else []


def dumps(stacks: str) -> dict[int, str]:
    """Pid -> its part of the file `stacks`."""
    parts = _DUMPED.split(stacks)
    return {int(pid): text for pid, text in zip(parts[1::2], parts[2::2])}  # noqa: B905 Python 3.9


def _variables(pid: int) -> dict[str, str]:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (word.decode("utf-8", "replace").partition("=") for word in words)
    return {name: value for name, _, value in pairs if name in ("RANK", "WORLD_SIZE")}


def cpu_ticks(pid: int) -> int:
    """Clock ticks of CPU that a process has used; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def ranks(processes: Iterable[Identity]) -> dict[int, tuple[int, int]]:
    """Global rank -> pid of the process that is it, and the size of the world.

    torchrun names both in the environment, which a rank's own children inherit: of several
    processes of one rank the first started is taken.
    """
    found: dict[int, tuple[int, int]] = {}
    for process in sorted(processes, key=lambda item: (item.start, item.pid)):
        variables = _variables(process.pid)
        rank, world = variables.get("RANK", ""), variables.get("WORLD_SIZE", "")
        if rank.isdigit() and int(rank) not in found:
            found[int(rank)] = (process.pid, int(world) if world.isdigit() else 0)
    return found


def describe(
    members: dict[int, tuple[int, int]], before: dict[int, int], stacks: str, log: Path
) -> Report:
    """The report of this node.

    Args:
        members: What `ranks` found.
        before: Pid -> its `cpu_ticks` before the stacks were taken.
        stacks: What the file `stacks` holds.
        log: The job's log.
    """
    parts = dumps(stacks)
    told = []
    for rank, (pid, _) in sorted(members.items()):
        found = read_stat(pid)
        told.append(
            {
                "rank": rank,
                "pid": pid,
                "state": found.state if found is not None else "gone",
                "used_cpu": cpu_ticks(pid) > before.get(pid, 0),
                "frames": frames(parts.get(pid, "")),
            }
        )
    world = max((size for _, size in members.values()), default=0)
    return {"world_size": world, "ranks": told, "lines": collective_lines(log)}
