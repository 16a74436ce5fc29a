# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Remove checkpoints of a training, and nothing else.

A folder goes only where it lies below a folder that was given, has a name that trainings give, is
what was looked at before, and is used by no process. It is renamed first, so that half a checkpoint
never has a checkpoint's name. Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import in_use, layout

_REMOVING = re.compile(
    re.escape(layout.REMOVING_PREFIX) + r"(checkpoint-\d+(-merged)?|iter_\d+)\.\d+"
)


def obstacles(roots: Sequence[str], wanted: Mapping[str, str]) -> list[str]:
    """Return why folders may not be removed, a sentence each.

    Args:
        roots: Absolute folders that the removal is confined to.
        wanted: Absolute folder to the ``fingerprint`` that ``layout.describe`` gave of it.
    """
    used = in_use.users(list(wanted))
    found = []
    for name, fingerprint in wanted.items():
        path = Path(name)
        reason = _misplaced(path, [Path(root) for root in roots])
        if not reason and not is_gone(path):
            reason = _changed(path, fingerprint) or "; ".join(used[name])
        if reason:
            found.append(f"{name}: {reason}")
    return found


def is_gone(path: Path) -> bool:
    """Tell whether nothing is at a path; on a shared disk another node may have removed it."""
    return not os.path.lexists(path)


def _misplaced(path: Path, roots: Sequence[Path]) -> str:
    if str(path) != os.path.normpath(path) or not path.is_absolute():
        return "expected an absolute path without '..'"
    if not layout.is_numbered(path.name):
        return "expected a folder named checkpoint-N, checkpoint-N-merged or iter_N"
    root = next((root for root in roots if root == path or root in path.parents), None)
    if root is None:
        return f"expected a folder below {', '.join(map(str, roots)) or 'a given one'}"
    between = [path, *path.parents]
    for folder in between[: len(path.parts) - len(root.parts)] or [path]:
        if folder.is_symlink():
            return f"{folder} is a link, and links are not followed"
    if not is_gone(path) and not stat.S_ISDIR(path.lstat().st_mode):
        return "expected a folder"
    return ""


def _changed(path: Path, fingerprint: str) -> str:
    base = path.parent if path.name.startswith("iter_") else path
    now = layout.describe(layout.Place(path, base, path.parent), 0.0, time.time_ns())
    if now["fingerprint"] != fingerprint:
        return "it has changed since it was looked at: look again"
    return "it is being written" if now["half"] else ""


def remove(paths: Sequence[str]) -> dict[str, Any]:
    """Remove folders that ``obstacles`` had nothing against.

    Returns:
        ``removed`` (folders), ``gone`` (what was not there any more) and ``failed`` (sentences).
    """
    removed: list[str] = []
    gone: list[str] = []
    failed: list[str] = []
    for name in paths:
        path = Path(name)
        aside = path.with_name(f"{layout.REMOVING_PREFIX}{path.name}.{time.time_ns()}")
        try:
            path.rename(aside)
            shutil.rmtree(aside)
        except FileNotFoundError:
            gone.append(name)
        except OSError as error:
            failed.append(f"{name}: {error.strerror}: {error.filename}")
        else:
            removed.append(name)
    return {"removed": removed, "gone": gone, "failed": failed}


def remove_leftovers(folders: Sequence[Path]) -> list[str]:
    """Finish what an earlier removal was interrupted in; return what was removed.

    Args:
        folders: Those that held the removed checkpoints.
    """
    found = []
    for folder in dict.fromkeys(folders):
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        for name in filter(_REMOVING.fullmatch, names):
            shutil.rmtree(folder / name, ignore_errors=True)
            if is_gone(folder / name):
                found.append(str(folder / name))
    return found
