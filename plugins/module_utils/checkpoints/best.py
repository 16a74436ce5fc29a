# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Read from a training's own files how good its checkpoints are.

``logging.jsonl`` has a line for each evaluation, with keys that begin with ``eval_``, and ends
with a summary that names the best checkpoint; ``trainer_state.json`` of ``swift sft`` names it too.
Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import progress, torch_dist

LOG = "logging.jsonl"
STATE = "trainer_state.json"

_SUMMARY = "best_model_checkpoint"
_NAMED = re.compile(r"(?:.*/)?checkpoint-(\d+)/?")


def of_training(folder: Path) -> dict[str, Any]:
    """Say what a training tells of its checkpoints.

    Args:
        folder: The one that holds the checkpoints, the log and ``args.json``.

    Returns:
        ``metric`` (the key, such as ``eval_loss``), ``greater`` (whether more is better),
        ``values`` (iteration, as text, to the metric's value there) and ``told`` (the iteration
        that upstream names as the best; None where it names none).
    """
    args = _json(folder / torch_dist.ARGS)
    wanted = str(args.get("metric_for_best_model") or "loss")
    metric = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
    values: dict[str, float] = {}
    told = _told_by_states(folder)
    for line in _lines(folder / LOG):
        if metric not in line and _SUMMARY not in line:  # most lines; parsing them takes long
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(found, dict):
            continue
        told = _iteration(found.get(_SUMMARY)) or told
        record = progress.parse_line(line)
        value = progress.number(found.get(metric))
        if record is not None and value is not None:
            values[str(record["step"])] = value
    return {
        "metric": metric,
        "greater": args.get("greater_is_better") is True,
        "values": values,
        "told": told,
    }


def _told_by_states(folder: Path) -> int | None:
    for checkpoint in torch_dist.numbered(folder) if folder.is_dir() else []:
        told = _iteration(_json(checkpoint / STATE).get(_SUMMARY))
        if told is not None:
            return told
    return None


def _iteration(path: object) -> int | None:
    match = _NAMED.fullmatch(path) if isinstance(path, str) else None
    return int(match.group(1)) if match else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError:
        return
