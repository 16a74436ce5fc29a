"""What needs the fleet and the run together: flags, lines and sizes, before a node is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

from .conftest import refused

OWNED = {
    "train": ["output_dir", "model", "mcore_model", "mcore_adapter", "dataset", "add_version"],
    "convert": ["output_dir", "model", "to_hf", "to_mcore"],
    "export": ["output_dir", "mcore_adapter", "to_hf"],
    "infer": ["model", "val_dataset", "result_path"],
    "deploy": ["host", "port", "model"],
}
CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    *(
        ({}, {"extra_args": {stage: {flag: "x"}}}, "flags that the tool does not set itself")
        for stage, flags in OWNED.items()
        for flag in flags
    ),
    ({}, {"extra_args": {"train": {"train_iter": 1}}}, "did you mean 'train_iters'?"),
    ({}, {"extra_args": {"train": {"save": "x"}}}, "a flag of `megatron sft`"),
    ({}, {"extra_args": {"train": {"zzzz": 1}}}, "see `megatron sft --help`"),
    ({}, {"extra_args": {"deploy": {"lora_rank_": 1}}}, "a flag of `swift deploy`"),
    ({}, {"parallel": {"tensor": 3}}, "on 2 ranks"),
    ({}, {"parallel": {"pipeline": 4}}, "on 2 ranks"),
    ({}, {"parallel": {"context": 2**40}}, "on 2 ranks"),
    ({}, {"training": {"iterations": 1, "global_batch_size": 3}}, "use a multiple of 2"),
    ({"line": "9.9"}, {}, "line: one of 2.6, 3.6"),
    ({"line": "4"}, {}, "line: one of 2.6, 3.6"),
    ({"line": "../x"}, {}, "line: one of 2.6, 3.6"),
]


@pytest.mark.parametrize(("fleet", "run", "said"), CASES, ids=lambda item: repr(item)[:50])
def test_a_plan_is_refused(
    tmp_path: Path, fleet: dict[str, Any], run: dict[str, Any], said: str
) -> None:
    nodes = [{"name": "node-1"}, {"name": "node-2"}]
    machines = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "nodes": nodes,
        **fleet,
    }
    spec = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 1},
        **run,
    }
    loaded = Fleet.from_document(machines, tmp_path / "fleet.yml")
    asked = RunSpec.from_document({"run": spec}, tmp_path / "run.yml")
    refused(tmp_path, [said], lambda: Client(tmp_path / "runs").plan(loaded, asked))
