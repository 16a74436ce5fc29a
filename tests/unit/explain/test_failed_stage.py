"""A failed stage's message ends with what the log's error means."""

from __future__ import annotations

import json
from pathlib import Path

from pyswiftops.paths import RunFolder
from pyswiftops.pipeline import Pipeline
from pyswiftops.planner.plan import make_plan
from pyswiftops.runner import ModuleResult, PlaybookResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.store import RunStore


def message(folder: Path, checkout: Path, detail: str) -> str:
    fleet = Fleet.load(checkout / "inventory" / "local" / "fleet.yml")
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 1},
    }
    plan = make_plan(fleet, RunSpec.from_document({"run": run}, folder / "run.yml"), "r")
    pipeline = Pipeline(plan, RunStore(RunFolder(folder, "r")), lambda _event: None)
    data = {"msg": json.dumps({"node": "node-2", "detail": detail})}
    failed = ModuleResult("fail", "name the first failure", "node-1", data, failed=True)
    return str(pipeline._failure(CATALOG["train"], PlaybookResult(ok=False, results=[failed])))


def test_a_known_error_is_explained_after_the_log(tmp_path: Path, checkout: Path) -> None:
    tail = "exited with code 1\ntorch.OutOfMemoryError: CUDA out of memory.\nlog on node-2: /log"
    told = message(tmp_path, checkout, tail)
    assert told.startswith(f"stage train failed on node-2: {tail}\n  means: The GPU's memory")
    assert "remedy: Lower training.micro_batch_size" in told
    assert told.index("remedy:") < told.index("kept:")


def test_an_unknown_one_is_shown_as_it_is(tmp_path: Path, checkout: Path) -> None:
    tail = "exited with code 1\nValueError: the answer is 42\nlog on node-2: /log"
    told = message(tmp_path, checkout, tail)
    assert told.startswith(f"stage train failed on node-2: {tail}\nkept: ")
