# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Everything that a node tells of itself before a launch, in one look.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import gpus, kernel_log, limits, names, processes, services, storage
from .meeting import Meeting, Probes

SECONDS = 60
_TEXT = 4000


def look(node: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a node tells; a subject that could not be looked at has `error`.

    Args:
        node: This node's name in the request.
        request: `token`, `seconds`, and `nodes`: name to `address`, `ports`, `root`, `python`,
            `env`, `network_file` (what jobs read of the network), `paths`, `taken` (ports of the
            launch), `model`, `inputs`; `probes` (shared paths) and `packages` (a program that
            tells of packages, after the node's python).
    """
    own = request["nodes"][node]
    began = time.time()
    probes = Probes(node, str(request["token"]), [*request["probes"], own["root"]])
    try:
        meeting = Meeting(node, str(request["token"]), request["nodes"], probes, request["seconds"])
        subjects: dict[str, Callable[[], Any]] = {
            "shm": storage.shm,
            "disks": lambda: storage.disks(own["paths"]),
            "memory": storage.memory,
            "model": lambda: storage.model(own["model"]) if own["model"] else None,
            "inputs": lambda: storage.inputs(own.get("inputs", ())),
            "limits": limits.look,
            "gpus": lambda: gpus.look() if request["device"] == "gpu" else {"program": ""},
            "kernel_log": kernel_log.look,
            "names": lambda: names.look(
                [item["address"] for item in request["nodes"].values()],
                own["env"],
                own.get("network_file", ""),
            ),
            "services": services.look,
            "ports": lambda: processes.ports(own["taken"]),
            "packages": lambda: packages(own["python"], request["packages"]),
            "machine": machine,
        }
        with ThreadPoolExecutor(1) as pool:  # others may come late, which costs no processor
            met = pool.submit(_guarded, meeting.hold)
            found = {name: _guarded(subject) for name, subject in subjects.items()}
            users = found["gpus"].get("processes") or []
            found["processes"] = _guarded(lambda: processes.look(own["root"], users))
            found["meeting"] = met.result()
    finally:
        probes.remove()
    return {"clock": {"began": began, "ended": time.time()}, **found}


def below(device: str) -> dict[str, Any]:
    """Return what the host of containers tells: what works below them, and the kernel's log.

    Args:
        device: gpu or cpu.
    """
    subjects: dict[str, Callable[[], Any]] = {
        "gpus": lambda: drivers() if device == "gpu" else {"drivers": []},
        "kernel_log": kernel_log.look,
        "services": services.look,
    }
    return {name: _guarded(subject) for name, subject in subjects.items()}


def drivers() -> dict[str, Any]:
    """Return the drivers of a host's GPUs; its containers tell the rest."""
    return {"drivers": sorted({gpu["driver"] for gpu in gpus.look()["gpus"]})}


def _guarded(subject: Callable[[], Any]) -> Any:
    """Look at a subject; what goes wrong is told in its place, so that the others are seen."""
    try:
        return subject()
    except Exception as problem:  # noqa: BLE001 a look must not end the others
        return {"error": f"{type(problem).__name__}: {problem}"}


def machine() -> dict[str, Any]:
    """Return what a golden result holds of the machine."""
    kernel = os.uname()
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        boot = file.read().strip()
    with open("/proc/uptime", encoding="ascii") as file:  # noqa: PTH123 a plain read
        uptime = float(file.read().split()[0])
    return {
        "kernel": kernel.release,
        "architecture": kernel.machine,
        "boot_id": boot,
        "uptime": uptime,
        "variables": {
            name: os.environ[name] for name in ("MODELSCOPE_CACHE",) if name in os.environ
        },
    }


def packages(python: str, argv: list[str]) -> dict[str, Any]:
    """Return what a program of the controller tells of the packages of a Python."""
    if not argv:
        return {}
    done = subprocess.run(
        [python, *argv], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": (done.stderr or done.stdout).strip()[-_TEXT:] or "no answer"}
    return found


def main(request: Mapping[str, Any]) -> None:
    """Print what this node tells; the action plugin `preflight` calls it on the node."""
    asked = request["request"]
    host = request.get("host", False)
    facts = below(asked["device"]) if host else look(str(request["node"]), asked)
    print(json.dumps({"changed": False, "facts": facts}))  # noqa: T201 it is the answer
