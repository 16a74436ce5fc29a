"""Worked yesterday, fails today: what differs, the most suspicious first."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pyswiftops import passport
from pyswiftops.cli.main import app
from pyswiftops.passport import Difference, differences
from pyswiftops.passport.diff import AREAS, flags

from .conftest import make_run


@pytest.fixture
def good(tmp_path: Path) -> dict[str, Any]:
    return passport.from_folder(make_run(tmp_path / "runs", "good").folder)


def test_the_same_run_under_another_id_is_no_difference(
    tmp_path: Path, good: dict[str, Any]
) -> None:
    store = make_run(tmp_path / "runs", "again")
    store.update("data", result=good_data(port=9999))
    assert differences(good, passport.from_folder(store.folder)) == []


def good_data(port: int) -> dict[str, Any]:
    from .conftest import RESULTS  # noqa: PLC0415 (beside its only use)

    data = copy.deepcopy(RESULTS["data"])
    data["values"]["lease.master_port"] = port
    return data


def test_what_was_changed_is_named_and_causes_come_before_effects(good: dict[str, Any]) -> None:
    bad = copy.deepcopy(good)
    group = bad["imports"]["train"][0]
    odd = {**copy.deepcopy(group), "nodes": ["node-2"]}
    group["nodes"] = ["node-1"]
    odd["packages"]["torch"] = "2.12.0"
    odd["packages"]["extra"] = "1.0"
    bad["imports"]["train"].append(odd)
    bad["files"]["data.1"] |= {"blake2b": "cc", "rows": 23}
    for command in bad["commands"]["train"].values():
        place = command["argv"].index("--lr") + 1
        command["argv"][place] = "0.5"
        command["env"]["NCCL_DEBUG"] = "INFO"
    bad["machines"][0]["kernel"] = "6.2"
    bad["stages"][2] |= {"state": "failed", "error": "NCCL timed out\nmore"}
    bad["loss"]["points"][-1][1] = 3.5
    bad["answers"][0]["after"] = "I am nobody."
    found = differences(good, bad)
    assert [AREAS.index(item.area) for item in found] == sorted(
        AREAS.index(item.area) for item in found
    )
    assert found[0] == Difference("versions", "torch", "train on node-2", "2.13.0", "2.12.0")
    assert found[1] == Difference("versions", "extra", "train on node-2", None, "1.0")
    by_what = {item.what: item for item in found}
    assert by_what["rows of data.1"].after == "23"
    assert by_what["--lr"].where == "train on node-1, train on node-2"  # told once
    assert (by_what["--lr"].before, by_what["--lr"].after) == ("0.0001", "0.5")
    assert by_what["NCCL_DEBUG"].before is None
    assert by_what["kernel"].where == "node-1, node-2"
    assert by_what["error of train"].after == "NCCL timed out"
    assert by_what["last loss"].after == "3.5"
    assert by_what["Who are you? (served model)"].after == "I am nobody."


def test_both_ways_round_it_is_the_same_list(good: dict[str, Any]) -> None:
    bad = copy.deepcopy(good)
    bad["imports"]["train"][0]["packages"].pop("torch")
    bad["imports"]["train"][0]["differ"] = {"ms-swift": "4.5.0"}
    bad["files"].pop("data.1")
    there, back = differences(good, bad), differences(bad, good)
    swapped = [Difference(i.area, i.what, i.where, i.after, i.before) for i in back]
    assert sorted(map(str, swapped)) == sorted(map(str, there))
    assert "torch (train on node-1, train on node-2): 2.13.0 -> none" in map(str, there)
    assert any("its files say 4.5.0" in str(item) for item in there)


def test_a_job_that_left_no_record_is_told_once(good: dict[str, Any]) -> None:
    bad = copy.deepcopy(good)
    bad["imports"] = {}  # its processes were killed
    (found,) = differences(good, bad)
    assert str(found) == "imports (train on node-1, train on node-2): recorded -> none"


def test_a_folder_that_is_not_there_is_told_once(good: dict[str, Any]) -> None:
    files = {name: {"bytes": 1, "blake2b": "ff"} for name in ("a.distcp", "b.distcp")}
    good["files"]["checkpoint"] = {"path": "/c", "bytes": 2, "blake2b": "ee", "files": files}
    bad = copy.deepcopy(good)
    bad["files"]["checkpoint"]["files"]["a.distcp"]["blake2b"] = "00"
    assert [item.what for item in differences(good, bad)] == ["checkpoint/a.distcp"]
    del bad["files"]["checkpoint"]
    assert [item.what for item in differences(good, bad)] == ["fingerprint of checkpoint"]


def test_nodes_with_roots_elsewhere_differ_in_the_fleet_file_alone(good: dict[str, Any]) -> None:
    text = json.dumps(good).replace('"/fleet', '"/data/fleet').replace("=/fleet", "=/data/fleet")
    found = differences(good, json.loads(text))
    assert [(item.area, item.what) for item in found] == [("fleet", "root")]


def test_a_loss_that_is_the_same_for_all_that_matters_is_none(good: dict[str, Any]) -> None:
    near, far = copy.deepcopy(good), copy.deepcopy(good)
    near["loss"]["points"][-1][1] += 0.0005
    far["loss"]["points"][-1][1] += 0.01
    assert differences(good, near) == []
    assert [item.what for item in differences(good, far)] == ["last loss"]


def test_a_command_flag_by_flag() -> None:
    argv = ["megatron", "sft", "--lr", "-0.5", "--dataset", "a b", "c", "--flag", "--lr", "2"]
    assert flags(argv) == {
        "command": "megatron sft",
        "--lr": "-0.5 2",
        "--dataset": "a b c",
        "--flag": "",
    }


def test_the_command_takes_runs_and_files_and_exits_as_diff_does(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make_run(runs, "good")
    other = make_run(runs, "bad", lr=0.5)
    file, _ = passport.write(other.folder, tmp_path)

    def diff(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["diff", *arguments, "--runs", str(runs)])

    same = diff("good", "good")
    assert (same.exit_code, same.stdout) == (0, "no difference\n")
    found = diff("good", str(file))
    assert found.exit_code == 1
    assert found.stdout.splitlines()[0] == "flags"
    assert "  --lr (train on node-1, train on node-2): 0.0001 -> 0.5" in found.stdout
    data = json.loads(diff("good", "bad", "--json").stdout)
    assert {"run file", "flags"} == {item["area"] for item in data}
