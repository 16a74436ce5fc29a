# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Read how far a training is from its logging.jsonl.

ms-swift appends one JSON object per `logging_steps` from a thread of its own. The key
that holds "step/total" differs by release line and trainer; either is accepted, lines
with neither (the summary at the end) are skipped, and so is what is not whole.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""`step`, `total` (int); `loss`, `grad_norm`, `lr` (float or None); `elapsed`,
`remaining`, `seconds_per_step` (seconds, float or None)."""

_STEP_KEYS = ("iteration", "global_step/max_steps")
_TAIL_BYTES = 256 * 1024
_DURATION = re.compile(
    r"(?:(?P<d>\d+)\s*d(?:ays?)?,?\s*)?(?:(?P<h>\d+)\s*h)?\s*(?:(?P<m>\d+)\s*m(?:in)?)?\s*"
    r"(?:(?P<s>\d+(?:\.\d+)?)\s*s)?"
)
_CLOCK = re.compile(r"(?:(?P<d>\d+) days?, )?(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+(?:\.\d+)?)")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(value: object) -> float | None:
    """Return a duration in seconds: 5, "5s", "1m 3s", "1h 2m 3s", "1d 2h", "0:01:03"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    found = _DURATION.fullmatch(text) or _CLOCK.fullmatch(text)
    if found is None:
        return number(text)
    return sum(float(found[unit] or 0) * scale for unit, scale in _UNITS.items())


def parse_line(line: str) -> Record | None:
    """Return a line's progress, or None when it is malformed or tells of no step."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    place = next((found[key] for key in _STEP_KEYS if isinstance(found.get(key), str)), "")
    step, slash, total = place.partition("/")
    if not slash or not step.strip().isdigit() or not total.strip().isdigit():
        return None
    speed = found.get("train_speed(s/it)", found.get("elapsed_time_per_iteration"))
    return {
        "step": int(step),
        "total": int(total),
        "loss": number(found.get("loss", found.get("lm loss"))),
        "grad_norm": number(found.get("grad_norm")),
        "lr": number(found.get("learning_rate")),
        "elapsed": seconds(found.get("elapsed_time")),
        "remaining": seconds(found.get("remaining_time")),
        "seconds_per_step": seconds(speed),
    }


def not_finite(line: str) -> list[str]:
    """Return which of `loss` and `grad_norm` a line gives as NaN or infinite.

    Python's JSON, which upstream writes, spells them `NaN` and `Infinity`; text counts too.
    """
    try:
        found = json.loads(line)
    except ValueError:
        return []
    if not isinstance(found, dict):
        return []
    values = {"loss": found.get("loss", found.get("lm loss")), "grad_norm": found.get("grad_norm")}
    return [name for name, value in values.items() if _is_odd(value)]


def _is_odd(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        return not math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def latest(path: str) -> Record | None:
    """Return the last progress of a file, or None while there is none.

    Only the file's end is read. An evaluation's line of the same step does not hide the
    training's line, which has the loss.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read(_TAIL_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    best: Record | None = None
    for line in reversed(data.decode("utf-8", errors="replace").splitlines()):
        record = parse_line(line)
        if record is None:
            continue
        if best is not None and record["step"] != best["step"]:
            break
        if best is None or record["loss"] is not None:
            best = record
        if best["loss"] is not None:
            break
    return best


def curve(path: str, most: int = 400) -> list[list[float | None]]:
    """Return a training's points `[step, loss, grad_norm, lr]`, evenly thinned to ``most``.

    A step that was trained again after a resume counts as it was trained last.
    """
    points: dict[int, list[float | None]] = {}
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                record = parse_line(line)
                if record is not None and record["loss"] is not None:
                    step = record["step"]
                    points[step] = [step, record["loss"], record["grad_norm"], record["lr"]]
    except OSError:
        return []
    ordered = [points[step] for step in sorted(points)]
    if len(ordered) <= most:
        return ordered
    stride = (len(ordered) - 1) / (most - 1)
    return [ordered[round(number * stride)] for number in range(most)]


def number(value: object) -> float | None:
    """Return a finite number, also one that is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None  # noqa: PLR0124 (NaN)
