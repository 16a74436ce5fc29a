"""What a hung job's ranks were doing is written down: real processes, real py-spy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_utils import hang_report

if TYPE_CHECKING:
    from conftest import Node

# As `py-spy dump --nonblocking` prints it.
DUMP = """\
Process 7: python -u sft.py
Python v3.12.3 (/usr/bin/python3.12)

Thread 9 (idle): "Thread-1 (_run)"
    wait (threading.py:359)
Thread 7 (active): "MainThread"
    all_reduce (torch/distributed/distributed_c10d.py:2806)
    wrapper (torch/distributed/c10d_logger.py:81)
    <module> (sft.py:7)
"""
RANK = """
import sys, time
def all_reduce():
    time.sleep(300)
def load_a_batch():
    while True:
        pass
print("NCCL INFO rank", sys.argv[1], flush=True)
all_reduce() if sys.argv[1] == "0" else load_a_batch()
"""
LEADER = """
import json, os, subprocess, sys
for rank in ("0", "1"):
    subprocess.Popen([sys.executable, "-c", sys.argv[2], rank],
                     env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"})
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({"iteration": "3/9", "loss": 1.0}) + "\\n")
import time
time.sleep(300)
"""


def test_the_main_threads_frames_are_read() -> None:
    assert hang_report.frames(DUMP)[0] == "all_reduce (torch/distributed/distributed_c10d.py)"
    assert hang_report.frames(DUMP)[-1] == "<module> (sft.py)"
    assert hang_report.frames("py-spy gave none") == []


def test_dumps_are_told_apart_by_process() -> None:
    both = f"# process 7 (python, rank 0), state S\n{DUMP}\n# process 8 (python), state R\nnone\n"
    found = hang_report.dumps(both)
    assert set(found) == {7, 8}
    assert "all_reduce" in found[7]


def test_only_lines_of_communication_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = ["loss 1.0", "h:1 [0] NCCL INFO Channel 00", "[rank1] Watchdog caught", "Gloo connect"]
    log.write_text("\n".join([*lines, *(f"NCCL INFO {number}" for number in range(50))]) + "\n")
    found = hang_report.collective_lines(log)
    assert len(found) == hang_report.MOST_LINES
    log.write_text("\n".join(lines) + "\n")
    assert hang_report.collective_lines(log) == lines[1:]


@pytest.mark.slow
def test_each_rank_of_a_hung_job_is_in_the_report(node: Node, tmp_path: Path) -> None:
    path = str(tmp_path / "logging.jsonl")
    folder = str(Path(sys.executable).parent)  # py-spy comes with the extra `local`
    node.start(
        sys.executable,
        "-c",
        LEADER,
        path,
        RANK,
        progress_file=path,
        hang_timeout=6,
        path=[folder],
    )
    end = node.end()
    assert end["reason"]["kind"] == "hung", end
    report = json.loads((node.directory / "hang.json").read_text(encoding="utf-8"))
    assert report["world_size"] == 2
    by_rank = {rank["rank"]: rank for rank in report["ranks"]}
    assert by_rank[0]["frames"][0].startswith("all_reduce (")
    assert not by_rank[0]["used_cpu"]
    assert any(frame.startswith("load_a_batch (") for frame in by_rank[1]["frames"])
    assert by_rank[1]["used_cpu"]
    assert sorted(report["lines"]) == ["NCCL INFO rank 0", "NCCL INFO rank 1"]
    told = node.module(state="finished", wait=1)
    assert told["hang"] == report
