"""Token lengths: what the run takes from them, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyswiftops.data.lengths import count_rows, lines, summary


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


def test_a_sample_counts_as_asked_and_a_folder_cannot_be_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{}\n{}\n{}\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    file, folder = str(tmp_path / "a"), str(tmp_path / "folder")
    assert count_rows([file, f"{file}#2"]) == 5
    assert count_rows([f"{folder}:subset#7"]) == 7
    assert count_rows([file, folder]) is None
    assert lines(f"{file}#2") is None
