"""The module ``room``: free bytes of the right disk, and what folders take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

RunModule = Callable[..., dict[str, Any]]


def test_folders_and_the_disk_above_a_root_that_is_not_there(
    run_module: RunModule, tmp_path: Path
) -> None:
    train = tmp_path / "train"
    (train / "checkpoint-2" / "iter").mkdir(parents=True)
    (train / "checkpoint-2" / "iter" / "shard").write_bytes(b"x" * 1000)
    (train / "log").write_bytes(b"y" * 10)
    (train / "last-checkpoint").symlink_to("checkpoint-2")
    folders = {"train": str(train), "export": str(tmp_path / "none")}
    answer = run_module("room", root=str(tmp_path / "not" / "there"), folders=folders)
    entries = {"checkpoint-2": 1000, "log": 10, "last-checkpoint": 0}
    assert answer["folders"]["train"] == {"bytes": 1010, "entries": entries}
    assert answer["folders"]["export"] == {"bytes": 0, "entries": {}}
    disk = os.statvfs(tmp_path)
    assert answer["total"] == disk.f_blocks * disk.f_frsize
    assert 0 < answer["free"] <= answer["total"]
    assert answer["memory"] > 0
    assert answer["filesystem"].endswith(f":{tmp_path.stat().st_dev}")
    assert not (tmp_path / "not").exists()
