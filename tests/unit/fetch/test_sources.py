"""Where models and rows come from: what a run file may say, and where each lies on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.errors import FleetError, RunSpecError
from pyswiftops.planner.fetching import (
    fetch_recorded,
    fetch_room,
    inputs_after,
    inputs_before,
    push_target,
)
from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.specs.sources import DataSource
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.stages.sources import fetch_steps, fetched_items, rounds

AT = Path("/files/run.yml")


def spec_of(model: Any, *rows: Any) -> RunSpec:
    run = {
        "name": "r",
        "model": model,
        "data": {"train": list(rows) or ["/rows.jsonl"]},
        "training": {"iterations": 1, "global_batch_size": 2},
    }
    return RunSpec.from_document({"run": run}, AT)


def fleet_of(**hub: Any) -> Fleet:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "host",
        "root": "/data",
        "hub": hub,
        "nodes": [{"name": f"n{number}", "address": f"10.0.0.{number}"} for number in (1, 2)],
    }
    return Fleet.from_document(document, AT)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("rows.jsonl", {"path": "/files/rows.jsonl"}),
        ("a/rows.jsonl#7", {"path": "/files/a/rows.jsonl", "rows": 7}),
        ("./owner/name", {"path": "/files/owner/name"}),
        ("/o/n.with#hash/rows.jsonl", {"path": "/o/n.with#hash/rows.jsonl"}),
        ("owner/name", {"id": "owner/name"}),
        (
            "AI-ModelScope/alpaca-gpt4-data-zh#500",
            {"id": "AI-ModelScope/alpaca-gpt4-data-zh", "rows": 500},
        ),
        ("HF::o/n:a/b#3", {"id": "o/n", "hub": "huggingface", "subset": "a/b", "rows": 3}),
        ("ms::o/n", {"id": "o/n", "hub": "modelscope"}),
    ],
)
def test_a_text_is_read_as_ms_swift_reads_it(text: str, keys: dict[str, Any]) -> None:
    (source,) = spec_of({"path": "/m"}, text).data.train
    assert source == DataSource(**keys)
    assert DataSource.model_validate(source.model_dump(mode="json")) == source


def test_a_mapping_survives_the_plan_file() -> None:
    rows = {"id": "o/n", "revision": "v1", "rows": 3}
    spec = spec_of({"id": "o/n", "hub": "huggingface"}, rows, {"path": "x.csv", "at": "controller"})
    assert RunSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "exactly one of 'path' (a path) and 'id'"),
        ({"path": "/m", "id": "o/n"}, "exactly one of 'path' (a path) and 'id'"),
        ({"path": "/m", "revision": "v1"}, "'hub' and 'revision' only beside 'id'"),
        ({"id": "o/n", "at": "controller"}, "'at' only beside 'path'"),
        ({"id": "just-a-name"}, "a hub id: owner/name"),
        ({"id": "o/../n"}, "a hub id: owner/name"),
        ({"id": "o/n", "revision": "../x"}, "a branch, tag or commit"),
        ({"id": "o/n", "hub": "github"}, "'modelscope' or 'huggingface'"),
        ({"path": "/m", "from": "controller"}, "a known key"),
    ],
)
def test_a_source_that_cannot_be_is_refused(source: dict[str, str], words: str) -> None:
    with pytest.raises(RunSpecError) as caught:
        spec_of(source)
    assert words in str(caught.value)
    with pytest.raises(RunSpecError) as caught:
        spec_of({"path": "/m"}, source)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "hub",
    [
        {"huggingface_endpoint": "mirror.example.com"},
        {"proxy": "http://user:password@proxy:3128"},
        {"mirror": "relative/on/a/node"},
        {"mirror_at": "cloud"},
        {"token": "hf_x"},
    ],
)
def test_access_to_hubs_that_cannot_be_is_refused(hub: dict[str, str]) -> None:
    with pytest.raises(FleetError):
        fleet_of(**hub)


def test_paths_that_every_node_sees_leave_the_stage_nothing_to_do() -> None:
    plan = make_plan(fleet_of(), spec_of({"path": "/m"}, "/a.jsonl#5"), "r")
    assert plan.idle("fetch")
    assert not plan.idle("data")
    assert plan.jobs["fetch"] == ()
    assert not make_plan(fleet_of(), spec_of({"id": "o/n"}), "r").idle("fetch")


def test_a_stage_with_nothing_to_do_starts_no_playbook(tmp_path: Path) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "nodes": [{"name": "node-1"}],
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    plan = make_plan(fleet, spec_of({"path": "/m"}), "r")
    result = Client(tmp_path / "runs").apply(plan, stages=["fetch"])
    assert result.stages["fetch"]["state"] == "succeeded"
    assert not (result.folder / "ansible").exists()


def test_the_last_folder_is_the_name_that_ms_swift_knows_and_revisions_stay_apart() -> None:
    spec = spec_of(
        {"id": "Qwen/Qwen2.5-7B-Instruct", "revision": "refs/pr/1"},
        "o/n",
        {"id": "o/n", "revision": "v1"},
        {"path": "/a/rows.jsonl", "at": "controller"},
        {"path": "/b/rows.jsonl", "at": "controller"},
        {"path": "/c/folder", "at": "first_node"},
    )
    model, *rows = ["/".join(item.parts) for item in fetched_items(spec)]
    assert model == "modelscope/models/refs%2Fpr%2F1/Qwen/Qwen2.5-7B-Instruct"
    assert rows[:2] == ["modelscope/datasets/master/o/n", "modelscope/datasets/v1/o/n"]
    assert len(set(rows)) == 5
    first, second = nodes_from_vars(fleet_of().host_vars())
    folder = fetched_items(spec)[-1]
    assert folder.path_on(first) == "/c/folder"
    assert folder.path_on(second).startswith("/data/n2/hub/first_node/datasets/")
    assert folder.path_on(second).endswith("/folder")


def test_a_mirror_stands_for_every_hub() -> None:
    spec = spec_of({"id": "o/m"}, "HF::o/n", {"path": "/r.jsonl", "at": "controller"})
    places = {}
    for where in ("first_node", "controller"):
        nodes = nodes_from_vars(fleet_of(mirror="/mirror", mirror_at=where).host_vars())
        places[where] = [(step["origin"], step["path"]) for step in fetch_steps(spec, nodes)]
    model, rows = "/mirror/modelscope/models/master/o/m", "/mirror/huggingface/datasets/main/o/n"
    own = ("controller", "/r.jsonl")
    assert places["first_node"] == [("first_node", model), ("first_node", rows), own]
    assert places["controller"] == [("controller", model), ("controller", rows), own]


def test_everybody_pulls_once_and_from_somebody_who_has_it() -> None:
    names = [f"n{number}" for number in range(13)]
    have = {names[0]}
    for pulls in rounds(names):
        assert set(pulls.values()) <= have
        assert len(set(pulls.values())) == len(pulls)  # nobody serves two at once
        assert not have & set(pulls)
        have |= set(pulls)
    assert have == set(names)
    assert len(rounds(names)) == 4
    assert rounds(["only"]) == []


def test_before_a_fetch_each_input_is_looked_at_where_it_lies() -> None:
    spec = spec_of(
        {"id": "o/n"},
        "/every.jsonl",
        {"path": "/first.jsonl", "at": "first_node"},
        {"path": "/here.jsonl", "at": "controller"},
    ).model_dump(mode="json")
    first, second = fleet_of().host_vars().values()
    assert inputs_before(spec, first, "node") == {
        "model": "",
        "datasets": ["/every.jsonl", "/first.jsonl"],
        "answers": True,
    }
    labelled = {**spec, "method": {"task_type": "seq_cls"}}
    assert inputs_before(labelled, first, "node")["answers"] is False
    assert inputs_before(spec, second, "node")["datasets"] == ["/every.jsonl"]
    assert inputs_before(spec, second, "controller")["datasets"] == ["/here.jsonl"]
    after = inputs_after(spec, second)
    assert after["model"] == "/data/n2/hub/modelscope/models/master/o/n"
    assert [Path(path).name for path in after["datasets"]] == [
        *("every.jsonl", "first.jsonl", "here.jsonl")
    ]


def test_room_and_records_of_downloads_go_by_folder() -> None:
    steps = fetch_steps(
        spec_of({"id": "o/m"}, {"path": "/r.jsonl", "at": "controller"}, "o/n"),
        nodes_from_vars(fleet_of().host_vars()),
    )
    folders = [f"/data/n1/hub/modelscope/{name}" for name in ("models/master/o/m",)]
    folders.append("/data/n1/hub/modelscope/datasets/master/o/n")
    held = {
        "n1": [{"complete": False, "room": 1}, {"complete": True, "room": 2}],
        "n2": [{"complete": False, "room": 3}, {"complete": True, "room": 4}],
    }
    assert fetch_room(steps, held) == f"3 n2 {folders[0]}"
    files = [{"files": {"a": {}}}, {"files": {"b": {}}}]
    assert fetch_recorded(steps, "n1", files) == {folders[0]: {"a": {}}, folders[1]: {"b": {}}}


def test_the_controller_sends_the_way_ansible_logs_in() -> None:
    document = fleet_of().model_dump(mode="json") | {
        "ssh": {"user": "ops", "private_key": "/k e", "proxy_jump": "a@b", "options": {}}
    }
    variables = Fleet.from_document(document, AT).host_vars()["n1"]
    target = push_target(variables, "/data/x")
    assert (target["host"], target["port"], target["user"]) == ("10.0.0.1", 22, "ops")
    assert target["ssh_options"][:2] == ["-i", "/k e"]
    assert "ProxyJump=a@b" in target["ssh_options"]
