"""``swiftops ckpt`` on two local nodes, through Ansible."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import layout

from pyswiftops import Client
from pyswiftops.checkpoints.retention import Keep
from pyswiftops.cli.checkpoints import short_names, size_text
from pyswiftops.errors import BadInputError, StageFailedError
from pyswiftops.nodes import Nodes
from pyswiftops.runner import ModuleResult, PlaybookResult
from pyswiftops.specs.fleet import Fleet

from . import trees
from .conftest import Swiftops


def settle(*folders: Path) -> None:
    """Date all files an hour back."""
    for folder in folders:
        for path in folder.rglob("*"):
            stamp = path.lstat().st_mtime - 3600
            os.utime(path, (stamp, stamp), follow_symlinks=False)


def test_ls_shows_a_run_over_all_nodes(swiftops: Swiftops, trains: list[Path]) -> None:
    trees.megatron(trains[0] / "checkpoint-10", 10, ranks=[0])
    trees.megatron(trains[1] / "checkpoint-10", 10, ranks=[1], rank0=False)
    trees.megatron(trains[0] / "checkpoint-20", 20, ranks=[0])
    trees.transformers(trains[0].with_name("export"))
    settle(*trains)
    done = swiftops("ckpt", "ls", "tune")
    assert done.code == 0, done.err
    lines = [[cell.strip() for cell in line.split("│")] for line in done.out.splitlines()]
    rows = {cells[1]: cells[2:-1] for cells in lines if len(cells) > 2}
    assert rows["checkpoint-10"][:7] == [
        "mcore",
        rows["checkpoint-10"][1],
        "yes",
        "yes",
        "5/6",
        "1/6",
        "yes",
    ]
    assert rows["checkpoint-20"][4:9] == ["5/6", "-", "no", "no", "no"]
    assert rows["export"][0] == "hf"
    assert "checkpoint-20: 1 file on no node: iter_0000020/__1_0.distcp" in done.out
    (told,) = json.loads(swiftops("ckpt", "ls", "--json").out)
    assert (told["name"], told["nodes"]) == ("tune", ["node-1", "node-2"])
    assert [item["title"] for item in told["checkpoints"]] == [
        "checkpoint-10",
        "checkpoint-20",
        "export",
    ]


@pytest.mark.slow
def test_folders_are_adopted_only_when_they_are_all_there(
    swiftops: Swiftops, fleet: Fleet, tmp_path: Path
) -> None:
    old = [tmp_path / name for name in ("first {{ 1 }}", "it's second")]
    trees.megatron(old[0] / "v0-20250101-000000" / "out", 10, ranks=[0])
    trees.megatron(old[1] / "v0-20250101-000000" / "out", 10, ranks=[1], rank0=False)
    places = [f"node-1:{old[0]}", f"node-2:{old[1]}/v0-20250101-000000"]
    file = tmp_path / "runs" / ".adopted" / "old.json"
    for wrong in (
        [*places, "node-2:/none"],
        ["node-3:/none"],
        ["node-1:relative"],
        ["node-1:/a/../b"],
        [f"node-1:{fleet.root}/.."],
    ):
        failed = swiftops("ckpt", "adopt", "old", *wrong)
        assert failed.code == 2, wrong
        assert "remedy" in failed.err
        assert not file.parent.exists()
    settle(*old)
    done = swiftops("ckpt", "adopt", "old", *places)
    assert done.code == 0, done.err
    (told,) = json.loads(swiftops("ckpt", "ls", "old", "--json").out)
    (item,) = told["checkpoints"]
    assert (item["title"], item["complete"]) == ("v0-20250101-000000/out/iter_0000010", True)
    assert [holding["node"] for holding in item["holdings"]] == ["node-1", "node-2"]
    assert swiftops("ckpt", "adopt", "old", *places).code == 0  # the same again
    before = file.read_bytes()
    assert swiftops("ckpt", "adopt", "old", places[0]).code == 2
    assert file.read_bytes() == before


def test_a_runs_name_is_taken(swiftops: Swiftops, trains: list[Path]) -> None:
    done = swiftops("ckpt", "adopt", "tune", f"node-1:{trains[0]}")
    assert done.code == 2
    assert "a run of that id" in done.err


def test_a_folder_without_a_checkpoint_is_not_adopted(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="a checkpoint"):
        Client(tmp_path / "runs").checkpoints.adopt("old", fleet, [f"node-1:{tmp_path}/empty"])
    assert not (tmp_path / "runs").exists()


def test_a_broken_file_of_adopted_folders_says_what_to_do(
    swiftops: Swiftops, tmp_path: Path
) -> None:
    trees.write(tmp_path / "runs" / ".adopted" / "old.json", "{}")
    done = swiftops("ckpt", "ls", "old")
    assert done.code == 2
    assert "adopt the folders again" in done.err


@pytest.mark.parametrize(
    ("nodes", "short"),
    [
        (["node-1", "node-2", "node-10"], ["1", "2", "10"]),
        (["node-1"], ["node-1"]),
        (["gpu-a-1", "gpu-a-2"], ["1", "2"]),
        (["a", "b"], ["a", "b"]),
        (["n-1", "n-1.x"], ["n-1", "n-1.x"]),
        (["n1", "n2"], ["n1", "n2"]),
    ],
)
def test_node_columns_are_short_and_differ(nodes: list[str], short: list[str]) -> None:
    assert len(set(short_names(nodes))) == len(nodes)
    if nodes != ["n-1", "n-1.x"]:
        assert short_names(nodes) == short


def test_sizes_are_told_in_the_largest_unit() -> None:
    counts = (0, 999, 1000, 2_500_000, 6_200_000_000, 3 * 10**12)
    expected = ["0 B", "999 B", "1.0 kB", "2.5 MB", "6.2 GB", "3.0 TB"]
    assert [size_text(count) for count in counts] == expected


def tree(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*"))


@pytest.mark.slow
def test_prune_says_what_would_go_and_removes_exactly_that(
    swiftops: Swiftops, trains: list[Path]
) -> None:
    for number in (10, 20, 30):
        trees.megatron(trains[0] / f"checkpoint-{number}", number, ranks=[0])
        trees.megatron(trains[1] / f"checkpoint-{number}", number, ranks=[1], rank0=False)
    trees.transformers(trains[0] / "best-model")
    trees.transformers(trains[0] / "checkpoint-10-merged")
    trees.write(trains[0] / "checkpoint-notes" / "a", b"x")
    (trains[0] / "checkpoint-5").symlink_to("checkpoint-30")
    settle(*trains)
    before = tree(*trains)
    dry = swiftops("ckpt", "prune", "tune", "--keep-last", "2")
    assert dry.code == 0, dry.err
    assert "nothing was removed; --yes removes 2 checkpoints" in dry.out
    assert "not a checkpoint that a training saved" in dry.out
    assert tree(*trains) == before
    goes = {"checkpoint-10", "checkpoint-10-merged"}
    left = [path for path in before if not goes & set(path.parts)]
    done = swiftops("ckpt", "prune", "tune", "--keep-last", "2", "--yes", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["done"]["removed"]["node-2"] == [str(trains[1] / "checkpoint-10")]
    titles = [item["title"] for item in told["done"]["left"]["checkpoints"]]
    assert titles == ["best-model", "checkpoint-20", "checkpoint-30"]
    assert tree(*trains) == left
    assert "nothing to remove" in swiftops("ckpt", "prune", "tune", "--keep-last", "2", "-y").out


@pytest.mark.slow
def test_on_a_shared_disk_a_checkpoint_goes_once_and_counts_once(
    swiftops: Swiftops, trains: list[Path]
) -> None:
    for number in (10, 20):
        trees.megatron(trains[0] / f"checkpoint-{number}", number)
    trains[1].rmdir()
    trains[1].symlink_to(trains[0])
    settle(trains[0])
    arguments = ("ckpt", "prune", "tune", "--keep-last", "1", "--json")
    plan = json.loads(swiftops(*arguments).out)["plan"]
    (gone,) = (item for item in plan["choices"] if not item["keep"])
    assert plan["bytes"] == gone["nodes"]["node-1"]["bytes"] == gone["nodes"]["node-2"]["bytes"]
    done = swiftops(*arguments, "--yes")
    assert done.code == 0, done.err
    assert sorted(path.name for path in trains[0].iterdir()) == ["checkpoint-20"]


@pytest.mark.slow
def test_if_one_node_refuses_no_node_removes(trains: list[Path], tmp_path: Path) -> None:
    for number in (10, 20):
        trees.megatron(trains[0] / f"checkpoint-{number}", number, ranks=[0])
        trees.megatron(trains[1] / f"checkpoint-{number}", number, ranks=[1], rank0=False)
    settle(*trains)
    checkpoints = Client(tmp_path / "runs").checkpoints
    plan = checkpoints.prune_plan("tune", Keep(last=1))
    assert [item.name for item in plan.goes] == ["checkpoint-10"]
    trees.write(trains[1] / "checkpoint-10" / "new", b"x")
    before = tree(*trains)
    with pytest.raises(StageFailedError, match="changed since") as failed:
        checkpoints.prune(plan)
    assert failed.value.node == "node-2"
    assert tree(*trains) == before


def test_prune_asks_what_to_keep(swiftops: Swiftops, trains: list[Path]) -> None:
    for arguments in ((), ("--keep-last", "0"), ("--keep-every", "0")):
        assert swiftops("ckpt", "prune", "tune", *arguments).code == 2
    assert tree(*trains) == []


def test_a_silent_node_is_told_and_nothing_is_decided_without_it(
    swiftops: Swiftops, trains: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.megatron(trains[0] / "checkpoint-10", 10, ranks=[0])
    trees.megatron(trains[0] / "checkpoint-20", 20, ranks=[0])
    answer = {**layout.scan([str(trains[0])], now_ns=time.time_ns() + 10**12), "used_by": {}}

    def play(_nodes: Nodes, _playbook: str, *_more: Any) -> PlaybookResult:
        answered = ModuleResult("checkpoint_ledger", "", "node-1", answer, failed=False)
        silent = {"msg": "no route to host"}
        failed = ModuleResult(
            "checkpoint_ledger", "", "node-2", silent, failed=True, unreachable=True
        )
        return PlaybookResult(ok=False, results=[answered, failed])

    monkeypatch.setattr(Nodes, "play", play)
    done = swiftops("ckpt", "ls", "tune")
    assert done.code == 1
    assert "node-2 did not answer: no route to host" in done.out
    assert "node-2 did not answer, and may hold what is missing" in done.out
    (told,) = json.loads(swiftops("ckpt", "ls", "tune", "--json").out)
    assert told["silent"] == {"node-2": "no route to host"}
    pruned = swiftops("ckpt", "prune", "tune", "--keep-last", "1", "--yes")
    assert pruned.code == 2
    assert "no route to host" in pruned.err
    places = [f"node-{n}:{train}" for n, train in enumerate(trains, 1)]
    adopted = swiftops("ckpt", "adopt", "old", *places)
    assert adopted.code == 2
    assert not Path("runs", ".adopted").exists()
