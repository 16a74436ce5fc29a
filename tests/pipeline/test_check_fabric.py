"""Two logical nodes measure each other through the whole machinery: job, environment, verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import swiftops

pytestmark = pytest.mark.slow

FLEET = {"plugin": "pyswiftops.fleet.fleet", "runtime": "local", "device": "cpu"}


def test_logical_nodes_are_measured_and_bad_input_changes_nothing(tmp_path: Path) -> None:
    fleet, root = tmp_path / "fleet.yml", tmp_path / "nodes"
    nodes = [{"name": "node-1"}, {"name": "node-2"}]
    fleet.write_text(yaml.safe_dump({**FLEET, "root": str(root), "nodes": nodes}))
    wrong = swiftops("check-fabric", "-i", str(fleet), "--sizes", "1K,none", "--json")
    assert wrong.returncode == 2
    assert "--sizes" in wrong.stderr
    assert not root.exists()
    done = swiftops("check-fabric", "-i", str(fleet), "--sizes", "64K,1M", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["backend"], told["faults"]) == ("gloo", [])
    assert [item["bytes"] for item in told["all_reduce"][0]["sizes"]] == [1 << 16, 1 << 20]
    assert {(pair["from"], pair["to"]) for pair in told["pairs"]} == {
        ("node-1", "node-2"),
        ("node-2", "node-1"),
    }
    assert "node-1 round 1, pair of node-1, node-2" in done.stderr
