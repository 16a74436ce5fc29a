"""A controller killed while it starts a job leaves it started on some nodes only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.paths import NodePaths
from pyswiftops.runner import run_playbook
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.command import Command

NODES = ("node-1", "node-2")

# Ends well once it has been started twice on both nodes.
TWICE = """
import sys, time
from pathlib import Path
mine, other = map(Path, sys.argv[1:])
with mine.open("a") as file:
    file.write("started\\n")
while not all(path.exists() and path.read_text().count("started") == 2 for path in (mine, other)):
    time.sleep(0.05)
"""


@pytest.mark.slow
def test_it_is_started_anew_on_all_nodes(
    tmp_path: Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": str(tmp_path / "nodes"),
        "nodes": [{"name": name} for name in NODES],
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    (tmp_path / "fleet.yml").write_text(fleet.to_yaml(), encoding="utf-8")
    commands = {}
    for name, other in (NODES, NODES[::-1]):
        argv = (sys.executable, "-c", TWICE, str(tmp_path / name), str(tmp_path / other))
        commands[name] = Command("train", name, argv, {}, (), str(tmp_path), fate=True)
    plan = {
        "run": {"resume": None},
        "jobs": {"train": {name: command.to_dict() for name, command in commands.items()}},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    folder = Path(NodePaths(str(tmp_path / "nodes" / "node-1"), "r").job("train"))
    run_module(
        "job",
        directory=str(folder),
        run_id="r",
        stage="train",
        node="node-1",
        argv=list(commands["node-1"].argv),
        peers=[{"node": name, "host": "127.0.0.1", "port": 9} for name in NODES],
        token="of a controller that is gone",  # noqa: S106 a test's
    )
    result = run_playbook(
        "stages.train",
        tmp_path / "fleet.yml",
        tmp_path / "ansible",
        {"swiftops_run_id": "r", "swiftops_plan_file": str(tmp_path / "plan.json")},
        forks=2,
    )
    assert result.ok, [item.data for item in result.failures]
    ends = {node: (data["state"], data["attempt"]) for node, data in result.data("job").items()}
    assert ends == {"node-1": ("succeeded", 2), "node-2": ("succeeded", 2)}
    left = json.loads((folder / "attempt-1" / "state.json").read_text(encoding="utf-8"))
    assert left["state"] == "stopped"
