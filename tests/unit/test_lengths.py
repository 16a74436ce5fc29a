"""Token lengths: what the run takes from them, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyswiftops.data.lengths import count_rows, summary


def test_max_length_holds_the_longest_row() -> None:
    result = summary([3, 38, 10], rows=3)
    assert result["longest"] == 38
    assert result["max_length"] == 40
    assert result["tokens"] == 51
    assert result["percentiles"] == {"50": 10, "90": 38, "99": 38, "100": 38}
    assert summary([40], rows=1)["max_length"] == 40


def test_rows_that_the_loader_dropped_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected all 4 rows to be usable, found 3"):
        summary([1, 2, 3], rows=4)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="found 0"):
        summary([], rows=0)


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{}\n\n{}\n", encoding="utf-8")
    (tmp_path / "b").write_text("{}", encoding="utf-8")
    assert count_rows([str(tmp_path / "a"), str(tmp_path / "b")]) == 3
