"""A fleet of two local nodes, and the command line called in a folder of its own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from pyswiftops.paths import NodePaths, RunFolder
from pyswiftops.specs.fleet import Fleet

from ..cli.conftest import Swiftops, swiftops  # noqa: TID252 the one home of the fixture

__all__ = ["Swiftops", "swiftops"]

RUN = "tune"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two local nodes; ``fleet.yml`` lies in ``tmp_path``."""
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": str(tmp_path / "nodes"),
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    (tmp_path / "fleet.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return Fleet.load(tmp_path / "fleet.yml")


@pytest.fixture
def trains(tmp_path: Path, fleet: Fleet) -> list[Path]:
    """Each node's training folder of the run ``tune``, which has ended."""
    folder = RunFolder(tmp_path / "runs", RUN)
    folder.root.mkdir(parents=True)
    folder.fleet.write_text(fleet.to_yaml(), encoding="utf-8")
    state = {
        "version": 1,
        "run_id": RUN,
        "digest": "",
        "fleet": "fleet",
        "created_at": time.time(),
        "state": "succeeded",
        "controller": None,
        "requested": [],
        "stages": {"train": {"state": "succeeded"}},
    }
    folder.state.write_text(json.dumps(state), encoding="utf-8")
    found = [Path(NodePaths(fleet.node_root(node), RUN).train) for node in fleet.nodes]
    for train in found:
        train.mkdir(parents=True)
    return found
