"""A real torchrun: its ranks live in sessions of their own and survive it when it is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Node

pytestmark = pytest.mark.slow


@pytest.fixture
def torchrun(node: Node, port: int, tmp_path: Path) -> tuple[int, list[int]]:
    """Start two ranks; return torchrun's pid and theirs."""
    pytest.importorskip("torch")
    rank = tmp_path / "rank.py"
    rank.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(300)\n")
    argv = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", str(rank)]
    told = node.start(sys.executable, *argv, env={"OMP_NUM_THREADS": "1"})
    return told["pid"], node.pids(2, seconds=90)


def test_a_killed_torchrun_leaves_no_rank(node: Node, torchrun: tuple[int, list[int]]) -> None:
    pid, ranks = torchrun
    assert {os.getsid(rank) for rank in ranks} == set(ranks)
    os.kill(pid, signal.SIGKILL)
    told = node.end()
    assert (told["state"], told["signal"]) == ("failed", 9)
    assert not node.alive(*ranks)


def test_a_killed_rank_fails_the_job(node: Node, torchrun: tuple[int, list[int]]) -> None:
    pid, ranks = torchrun
    os.kill(ranks[0], signal.SIGKILL)
    told = node.end(30)
    assert (told["state"], told["exit_code"]) == ("failed", 1)
    assert not node.alive(pid, *ranks)
