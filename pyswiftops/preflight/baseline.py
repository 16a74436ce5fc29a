"""A golden result of a fleet: what should stay as it was, and what has changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyswiftops.forecast import size
from pyswiftops.preflight.finding import Facts, Fleetwide, Found, Severity
from pyswiftops.specs.preflight import Check

VERSION = 1


def golden(facts: Fleetwide) -> dict[str, Any]:
    """What is kept of a result: what a fleet in order has today and tomorrow."""
    return {"version": VERSION, "nodes": {name: stable(told) for name, told in facts.items()}}


def stable(told: Facts) -> dict[str, str]:
    """What of a node's facts does not change by itself, by name."""
    found: dict[str, str] = {}
    machine, gpus = told.get("machine") or {}, told.get("gpus") or {}
    found["kernel"] = str(machine.get("kernel", ""))
    found["architecture"] = str(machine.get("architecture", ""))
    found["memory"] = size(int((told.get("memory") or {}).get("total") or 0))
    found["processors"] = str((told.get("limits") or {}).get("processors", ""))
    found["/dev/shm"] = size(int((told.get("shm") or {}).get("size") or 0))  # noqa: S108 a name
    found["driver"] = ", ".join(sorted({str(gpu["driver"]) for gpu in gpus.get("gpus") or ()}))
    found["CUDA of the driver"] = str(gpus.get("cuda") or "")
    for gpu in gpus.get("gpus") or ():
        found[f"GPU {gpu['index']}"] = f"{gpu['name']} ({gpu['uuid']})"
    for name, pair in ((told.get("limits") or {}).get("limits") or {}).items():
        found[f"limit {name}"] = " to ".join(map(str, pair))
    for name, item in (told.get("disks") or {}).items():
        mount = item.get("mount") or {}
        found[f"disk of {name}"] = f"{mount.get('source')} ({mount.get('type')})"
        found[f"size of the disk of {name}"] = size(int(item.get("total") or 0))
    for name, item in ((told.get("packages") or {}).get("packages") or {}).items():
        found[f"package {name}"] = str(item["version"] or "")
    for whose in ("login", "jobs"):
        item = (told.get("names") or {}).get(whose) or {}
        found[f"proxies of {whose}"] = ", ".join(sorted((item.get("proxies") or {}).values()))
    return {name: value for name, value in found.items() if value}


def differences(before: Mapping[str, Any], facts: Fleetwide) -> Iterator[Found]:
    """What is another than in the golden result.

    Args:
        before: From :func:`golden`; one of another version says nothing.
        facts: node -> what it tells now.
    """
    if before.get("version") != VERSION:
        return
    known: Mapping[str, Mapping[str, str]] = before["nodes"]
    for name, told in facts.items():
        if name not in known:
            yield _found(name, "a node of the golden result", "a node that it does not know")
            continue
        was, now = known[name], stable(told)
        for key in dict.fromkeys([*was, *now]):
            if was.get(key, "none") != now.get(key, "none"):
                old, new = was.get(key, "none"), now.get(key, "none")
                yield _found(name, f"{key} as recorded: {old}", new)


def _found(name: str, expected: str, found: str) -> Found:
    remedy = "undo it; or, if it is meant: swiftops preflight --record"
    return Found(Check.BASELINE, Severity.WARN, name, expected, found, remedy)
