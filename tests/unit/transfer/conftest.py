"""Names that break shells, globs and list files."""

from __future__ import annotations

from pathlib import Path

import pytest

HOSTILE = (
    ".metadata",
    "a b/c'd\".txt",
    "semi;rm -rf $HOME/`id`",
    "#comment",
    "-rf",
    "star*?[1]",
    "back\\slash",
    "new\nline",
    "模型/权重.safetensors",
    "deep/.hidden/__0_0.distcp",
)


@pytest.fixture
def hostile_tree(tmp_path: Path) -> Path:
    """A folder whose names hold what breaks shells, globs and list files."""
    root = tmp_path / "sour ce'[1]; $x"
    for number, name in enumerate(HOSTILE):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (1000 + number))
    return root
