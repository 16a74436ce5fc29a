"""Locks and private folders."""

from __future__ import annotations

from pathlib import Path

from pyswiftops.private import alone, clear_stale, private_folder


def test_only_one_holds_a_lock_and_nothing_of_it_stays(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "it"
    with alone(file) as first, alone(file) as second:
        assert first
        assert not second
    assert list(file.parent.iterdir()) == []
    with alone(file) as again:
        assert again


def test_a_folder_in_use_is_not_cleared(tmp_path: Path) -> None:
    with private_folder(tmp_path) as folder:
        (folder / "secret").write_text("x", encoding="utf-8")
        clear_stale(tmp_path)
        assert (folder / "secret").exists()
    assert not folder.exists()


def test_a_folder_whose_owner_is_gone_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "secret").write_text("x", encoding="utf-8")
    clear_stale(tmp_path)
    assert not (tmp_path / "left").exists()
