"""Processes of ansible-playbook that outlive their controller are found and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyswiftops import leftovers
from pyswiftops.runner import run_playbook
from pyswiftops.specs.fleet import Fleet

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def start(owner: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, leftovers.OWNER: owner}
    return subprocess.Popen(SLEEP, env=environment, start_new_session=True)


def test_only_what_carries_the_run_is_ended(tmp_path: Path) -> None:
    mine, others = start(str(tmp_path)), start(f"{tmp_path}-2")
    try:
        while not leftovers.carrying(str(tmp_path)):  # until it has become what it is to be
            time.sleep(0.01)
        assert leftovers.end(str(tmp_path)) == [mine.pid]
        assert mine.wait(10) == -9
        assert others.poll() is None
        assert leftovers.end(str(tmp_path)) == []
    finally:
        for process in (mine, others):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_workers_of_a_cancelled_playbook_are_ended(tmp_path: Path) -> None:
    """They have sessions of their own, so that a signal to ansible-playbook's group misses them."""
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": str(tmp_path / "nodes"),
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    inventory = tmp_path / "fleet.yml"
    inventory.write_text(Fleet.from_document(document, inventory).to_yaml(), encoding="utf-8")
    words = tmp_path / "argv.json"
    words.write_text('["sleep", "600"]', encoding="utf-8")
    owner = str(tmp_path / "run")
    result = run_playbook(
        "execute",
        inventory,
        tmp_path / "ansible",
        {"swiftops_argv_file": str(words)},
        forks=5,
        cancelled=lambda: len(leftovers.carrying(owner)) > 4,
        owner=owner,
    )
    assert not result.ok
    leftovers.end(owner)
    assert leftovers.carrying(owner) == []
