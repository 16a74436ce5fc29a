"""A run's folder as a finished run leaves it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.store import RunStore

AT = Path("/nowhere/x.yml")
HOSTILE = "<script>alert('x')</script>\"'&{{ 7 * 7 }}{% raw %}</title>小智"


def plan(run_id: str = "good", *, lr: float = 1e-4) -> Plan:
    fleet = Fleet.from_document(
        {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": "/fleet",
            "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        },
        AT,
    )
    run = {
        "name": run_id,
        "model": {"path": "/m"},
        "data": {"train": ["/d.jsonl"]},
        "training": {"iterations": 4, "learning_rate": lr},
    }
    return make_plan(fleet, RunSpec.from_document({"run": run}, AT), run_id)


IMPORTS = {
    "processes": 1,
    "ranks": [0],
    "python": "3.11.7",
    "cuda": "12.8",
    "nccl": "2.27.3",
    "packages": {"torch": "2.13.0", "ms-swift": "4.6.0"},
    "folder": "/v/site-packages",
    "elsewhere": {},
    "differ": {},
}
ROWS = {
    "path": "/d.jsonl",
    "bytes": 90,
    "rows": 24,
    "files": {"d.jsonl": {"bytes": 90, "blake2b": "aa"}},
    "left_out": 0,
    "whole": True,
    "blake2b": "bb",
}
RESULTS: dict[str, dict[str, Any]] = {
    "data": {
        "values": {"data.max_length": 40, "lease.master_port": 1234},
        "files": {"data.1": ROWS},
        "machines": [{"nodes": ["node-2", "node-1"], "kernel": "6.1", "memory_bytes": 8 * 10**9}],
    },
    "infer": {"answers": [{"ask": "Who are you?", "answer": "A model."}]},
    "train": {
        "imports": {"train": [{"nodes": ["node-2", "node-1"], **IMPORTS}]},
        "curve": [[step, 4.0 - step, 1.0, 1e-4] for step in range(1, 5)],
    },
    "smoke": {"answers": [{"ask": "Who are you?", "answer": "I am 小智."}]},
}


def make_run(runs: Path, run_id: str = "good", *, lr: float = 1e-4) -> RunStore:
    store = RunStore(RunFolder(runs, run_id))
    store.create(plan(run_id, lr=lr))
    start = {"run_id": run_id, "stages": list(RESULTS), "tools": {"pyswiftops": "0.1.0"}}
    store.record(Event(EventKind.RUN_STARTED, "", 0.0, data=start))
    for stage, result in RESULTS.items():
        state = {"state": "succeeded", "started_at": 1.8e9, "seconds": 12.5, "error": None}
        store.update(stage, **state, result=copy.deepcopy(result))
    return store


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return make_run(tmp_path / "runs")
