# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What the Python processes of a job imported, brought together.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from . import import_hook

HOOK_FILE = "sitecustomize.py"


def environment(hook: Path, records: Path, python_path: str) -> dict[str, str]:
    """Return the variables that make a job's Python processes record their imports.

    Args:
        hook: The folder that holds the hook.
        records: The folder that processes write to.
        python_path: PYTHONPATH as it would be without.
    """
    return {
        "PYTHONPATH": f"{hook}:{python_path}" if python_path else str(hook),
        import_hook.FOLDER: str(records),
    }


def summary(records: Path) -> dict[str, Any] | None:
    """Return what all recorded processes imported; None where none was recorded.

    Returns:
        `processes` and `ranks` that were recorded, `python`, `cuda`, `nccl`, `packages`
        (distribution to version), `folder` (where most of them lie) and `elsewhere`
        (distribution to its folder, where that is another), `differ` (distribution to the
        version that its own files name). Where processes disagree, values are joined by " | ".
    """
    found = [record for path in sorted(records.glob("*.json")) for record in _read(path)]
    if not found:
        return None
    packages: dict[str, dict[str, set[str]]] = {}
    for record in found:
        for name, entry in record["packages"].items():
            for key, value in entry.items():
                packages.setdefault(name, {}).setdefault(key, set()).add(str(value))
    folders = Counter(_joined(entry["folder"]) for entry in packages.values())
    most = folders.most_common(1)[0][0] if folders else ""
    return {
        "processes": len(found),
        "ranks": sorted({record["rank"] for record in found if record["rank"] is not None}),
        **{
            key: _joined({str(record[key]) for record in found if record.get(key)})
            for key in ("python", "cuda", "nccl")
        },
        "packages": {name: _joined(packages[name]["version"]) for name in sorted(packages)},
        "folder": most,
        "elsewhere": {
            name: _joined(packages[name]["folder"])
            for name in sorted(packages)
            if _joined(packages[name]["folder"]) != most
        },
        "differ": {
            name: _joined(packages[name]["module_version"])
            for name in sorted(packages)
            if "module_version" in packages[name]
        },
    }


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the record of a file, or nothing where it is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fine = isinstance(record["packages"], dict) and "rank" in record
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [record] if fine else []


def _joined(values: set[str]) -> str:
    return " | ".join(sorted(values))
