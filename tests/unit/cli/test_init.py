"""init writes files that load, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

from .conftest import Swiftops

HOSTS = ("--runtime", "host", "--address", "10.0.0.1", "--address", "10.0.0.2", "--gpus", "8")


@pytest.mark.parametrize(
    ("arguments", "ranks"),
    [
        (("--device", "cpu"), 2),
        (("--device", "gpu", "--nodes", "3", "--gpus", "2"), 6),
        (HOSTS, 16),
        ((*HOSTS, "--model", "Qwen/Qwen2.5-7B-Instruct", "--tuner", "full"), 16),
        ((*HOSTS, "--dataset", "/数据/行 1.jsonl", "--dataset", "/b.jsonl"), 16),
    ],
)
def test_what_it_writes_loads_and_plans(
    swiftops: Swiftops, arguments: tuple[str, ...], ranks: int
) -> None:
    done = swiftops("init", "new", "--yes", *arguments)
    assert done.code == 0, done.err
    fleet, spec = Fleet.load("new/fleet.yml"), RunSpec.load("new/run.yml")
    assert sum(fleet.ranks(node) for node in fleet.nodes) == ranks
    assert spec.training.global_batch_size % ranks == 0
    assert make_plan(fleet, spec, "x").jobs["train"]
    for name in ("fleet.yml", "run.yml"):
        assert "#" in Path("new", name).read_text(encoding="utf-8")


def test_local_gpu_nodes_share_no_gpu(swiftops: Swiftops) -> None:
    swiftops("init", "--yes", "--nodes", "2", "--gpus", "2")
    assert [node.gpus for node in Fleet.load("fleet.yml").nodes] == [[0, 1], [2, 3]]


def test_files_that_are_there_are_kept(swiftops: Swiftops) -> None:
    Path("run.yml").write_text("mine", encoding="utf-8")
    done = swiftops("init", "--yes")
    assert done.code == 2
    assert "--force" in done.err
    assert Path("run.yml").read_text(encoding="utf-8") == "mine"
    assert not Path("fleet.yml").exists()
    told = json.loads(swiftops("init", "--force", "--json").out)
    assert told == {"fleet": "fleet.yml", "run": "run.yml"}
    assert RunSpec.load("run.yml").name == "first-run"


def test_paths_are_those_of_the_folder_it_is_called_in(swiftops: Swiftops) -> None:
    Path("model").mkdir()
    Path("rows.jsonl").touch()
    given = ("--yes", "--model", "model", "--dataset", "rows.jsonl", "--dataset", "not-yet.jsonl")
    swiftops("init", "below", *given)
    spec = RunSpec.load("below/run.yml")
    assert spec.model.path == str(Path("model").resolve())
    assert spec.data.train[0].path == str(Path("rows.jsonl").resolve())
    swiftops("init", *given)
    assert '"model"' in Path("run.yml").read_text(encoding="utf-8")
    assert RunSpec.load("run.yml").model.path == spec.model.path
