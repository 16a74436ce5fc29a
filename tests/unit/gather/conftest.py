"""A checkpoint over three folders of this machine, and what gathers it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from bench.checkpoints import Made, make

NAMES = ("node-1", "node-2", "node-3")
PREFIX = "ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints"


@pytest.fixture
def utils() -> Callable[[str], ModuleType]:
    """A module utility of this checkout's collection."""
    import importlib  # noqa: PLC0415 after the collection's path is set

    return lambda name: importlib.import_module(f"{PREFIX}.{name}")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A rank a folder; entries of 64 kB, so that every shard holds several."""
    return make([tmp_path / name for name in NAMES], 5.25, iteration=10, entry=64 * 1024)


@pytest.fixture
def told(made: Made, utils: Callable[[str], ModuleType]) -> Callable[[], dict[str, Any]]:
    """What each node tells now."""

    def look() -> dict[str, Any]:
        return {
            name: utils("layout").scan([folder.parent], settle=0)
            for name, folder in zip(NAMES, made.folders, strict=True)
        }

    return look
