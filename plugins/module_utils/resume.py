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
import re
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, torch_dist

_NAMED = re.compile(r"checkpoint-(\d+)")


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


def asked(name: str | None) -> int | None:
    """Return the step in the name of a checkpoint, None where it tells none."""
    found = _NAMED.fullmatch(name or "")
    return int(found.group(1)) if found else None


def drop_other(dest: Path, name: str | None) -> bool:
    """Remove what ``dest`` holds of another step than the one that is asked for.

    The tracker goes first, so that nothing takes the rest for a checkpoint.

    Returns:
        Whether there was something.
    """
    step = asked(name)
    if step is None or not dest.is_dir():
        return False
    held = {int(path.name[len("iter_") :]) for path in torch_dist.iterations(dest)}
    if (dest / torch_dist.TRACKER).is_file():
        held.add(iteration(dest))
    if held <= {step}:
        return False
    (dest / torch_dist.TRACKER).unlink(missing_ok=True)
    shutil.rmtree(dest)
    return True


def find(source: Path, name: str | None) -> Path | None:
    """Return the checkpoint to go on from; a half saved one has no tracker yet and is none.

    Args:
        source: A checkpoint, or the output folder of a training.
        name: The folder name of a checkpoint in the output folder, or of the checkpoint that
            ``source`` is; None for the latest.
    """
    if name is not None:
        held = (source / name, source)
        found = (at for at in held if at.is_dir() and torch_dist.holds_anything(at))
        return next((at for at in found if at != source or _fits(at, name)), None)
    if (source / torch_dist.TRACKER).is_file():
        return source
    numbered = torch_dist.numbered(source) if source.is_dir() else []
    return next((path for path in numbered if (path / torch_dist.TRACKER).is_file()), None)


def _fits(folder: Path, name: str) -> bool:
    """Tell whether a folder of iterations (lines up to 3.11) holds the one that is asked for."""
    step = asked(name)
    held = torch_dist.iterations(folder)
    return step is None or folder.name == name or any(at.name == f"iter_{step:07d}" for at in held)


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


def take(checkpoint: Path, dest: Path, step: int | None = None) -> dict[str, int]:
    """Link, or copy where linking is impossible, all files of ``checkpoint`` into ``dest``.

    Args:
        checkpoint: The folder.
        dest: The folder to fill.
        step: Of a folder of iterations (lines up to 3.11), take this one alone; the tracker is
            written anew then, as there it names the last one.

    Returns:
        How many files were ``linked`` and ``copied``; what is there already counts for none.
    """
    names, _ = manifest.walk(checkpoint, [])
    counts = {"linked": 0, "copied": 0}
    if step is not None:
        of_step = (f"iter_{step:07d}/", torch_dist.ARGS)
        tracked = torch_dist.TRACKER in names
        names = [name for name in names if name.startswith(of_step)]
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
    if step is not None and tracked and not (dest / torch_dist.TRACKER).exists():
        part = dest / manifest.part_name(torch_dist.TRACKER)
        part.write_text(str(step), "utf-8")
        part.replace(dest / torch_dist.TRACKER)
        counts["copied"] += 1
    return counts
