"""A line of numbers as a picture of braille characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # column, then row from the top
_BLANK = 0x2800


def plot(values: Sequence[float], width: int, height: int) -> list[str]:
    """Draw values from left to right, the least at the bottom.

    Args:
        values: Numbers; those that are not finite leave a gap.
        width: Characters; each holds two values side by side.
        height: Lines; each holds four levels.

    Returns:
        ``height`` lines of ``width`` characters; none where no value is finite.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1 or height < 1:
        return []
    low, high = min(finite), max(finite)
    columns, levels = width * 2, height * 4
    cells = [[0] * width for _ in range(height)]
    shown = _resampled(values, columns)
    for column, value in enumerate(shown):
        if not math.isfinite(value):
            continue
        share = (value - low) / (high - low) if high > low else 0.0
        level = levels - 1 - round(share * (levels - 1))
        cells[level // 4][column // 2] |= _DOTS[column % 2][level % 4]
    return ["".join(chr(_BLANK + cell) for cell in line) for line in cells]


def _resampled(values: Sequence[float], columns: int) -> list[float]:
    """At most one value a column: means of neighbours where there are more."""
    if len(values) <= columns:
        return list(values)
    shown = []
    for column in range(columns):
        begin = column * len(values) // columns
        part = values[begin : (column + 1) * len(values) // columns]
        finite = [value for value in part if math.isfinite(value)]
        shown.append(sum(finite) / len(finite) if finite else math.nan)
    return shown
