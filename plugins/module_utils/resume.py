# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Take what a node holds of a checkpoint as the one that training goes on from.

Files are linked, not copied, where both folders lie on one file system: a checkpoint is written
once, unless its run is trained again from the beginning. The tracker is linked last, so that its
presence proves that everything else of this node is there. Standard library only, Python 3.9.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, torch_dist


class ResumeError(Exception):
    """There is no checkpoint to go on from, or it does not fit the run.

    Args:
        expected: What had to be.
        found: What is.
        where: The folder.
        remedy: What to do.
    """

    def __init__(self, expected: str, found: str, where: Path, remedy: str) -> None:
        self.finding = {
            "expected": expected,
            "found": found,
            "where": str(where),
            "remedy": remedy,
        }
        super().__init__("; ".join(f"{name}: {text}" for name, text in self.finding.items()))


def find(source: Path, name: str | None) -> Path | None:
    """Return the checkpoint to go on from; a half saved one has no tracker yet and is none.

    Args:
        source: A checkpoint, or the output folder of a training.
        name: The folder name of a checkpoint in the output folder, or of the checkpoint that
            ``source`` is; None for the latest.
    """
    if name is not None:
        held = (source / name, source)
        return next((at for at in held if at.is_dir() and torch_dist.holds_anything(at)), None)
    if (source / torch_dist.TRACKER).is_file():
        return source
    numbered = torch_dist.numbered(source) if source.is_dir() else []
    return next((path for path in numbered if (path / torch_dist.TRACKER).is_file()), None)


def iteration(checkpoint: Path) -> int:
    """Return the step that a checkpoint was saved after.

    Raises:
        ResumeError: The tracker holds no number: converted weights have no optimizer to go on.
    """
    text = (checkpoint / torch_dist.TRACKER).read_text("utf-8", "replace").strip()
    if not (text.isascii() and text.isdigit()):
        raise ResumeError(
            f"a step in {torch_dist.TRACKER}",
            repr(text[:40]),
            checkpoint,
            "name a checkpoint that training saved",
        )
    return int(text)


def differences(checkpoint: Path, needed: dict[str, Any]) -> list[str]:
    """Return what ``args.json`` says otherwise than the run needs it, a sentence each."""
    try:
        args = json.loads((checkpoint / torch_dist.ARGS).read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise ResumeError(
            f"{torch_dist.ARGS}, which rank 0 writes beside the shards",
            str(problem),
            checkpoint,
            "name a checkpoint that is whole",
        ) from problem
    return [
        f"{name} {json.dumps(args.get(name))} in the checkpoint, {json.dumps(value)} in this run"
        for name, value in needed.items()
        if name in args and args[name] != value
    ]


def take(checkpoint: Path, dest: Path) -> dict[str, int]:
    """Link, or copy where linking is impossible, all files of ``checkpoint`` into ``dest``.

    Returns:
        How many files were ``linked`` and ``copied``; what is there already counts for none.
    """
    names, _ = manifest.walk(checkpoint, [])
    counts = {"linked": 0, "copied": 0}
    for name in sorted(names, key=lambda name: name == torch_dist.TRACKER):
        target = dest / name
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(checkpoint / name, target)
            counts["linked"] += 1
        except OSError as problem:
            if problem.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            part = target.with_name(manifest.part_name(target.name))
            shutil.copy2(checkpoint / name, part)
            part.replace(target)
            counts["copied"] += 1
    return counts
