"""Checkpoints that torch wrote, and one that Megatron wrote; modules as Ansible runs them."""

from __future__ import annotations

import functools
import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs checkpoints that torch writes first is slow."""
    for item in items:
        if "saved" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints that two torch processes wrote (see ``save_with_torch.py``)."""
    folder = tmp_path_factory.mktemp("saved")
    script = str(Path(__file__).parent / "save_with_torch.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(folder), str(rank), "2"], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    for rank in ranks:
        _, said = rank.communicate(timeout=120)
        assert rank.returncode == 0, said.decode()
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """The two ranks' checkpoint with the files that rank 0 adds, to spoil."""
    checkpoint = tmp_path / "output" / "checkpoint-10"
    folder = checkpoint / "iter_0000010"
    shutil.copytree(saved / "shared", folder)
    (folder / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    (checkpoint / "args.json").write_text("{}")
    (checkpoint / "latest_checkpointed_iteration.txt").write_text("10")
    return checkpoint


@pytest.fixture
def megatron_index(tmp_path: Path) -> Path:
    """The index of a LoRA checkpoint (pipeline parallel 2) from ms-swift and megatron-core."""
    packed = Path(__file__).parent / "data" / "lora_pp2.metadata.gz"
    path = tmp_path / ".metadata"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


@pytest.fixture
def run_module(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Run checkpoint_info on arguments; return the JSON it prints."""
    return functools.partial(run_module, "checkpoint_info")
