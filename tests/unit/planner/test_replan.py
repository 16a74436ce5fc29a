"""A plan with other nodes, or another checkpoint: what changes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import BadInputError
from pyswiftops.planner import replan
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import Resume, RunSpec

AT = Path("/nowhere/x.yml")
DIGEST = f"r/i@sha256:{'0' * 64}"


def fleet(**more: Any) -> Fleet:
    nodes = [{"name": f"node-{number}"} for number in (1, 2, 3)]
    nodes[2]["spare"] = True  # type: ignore[assignment]
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "/fleet",
        "nodes": nodes,
        **more,
    }
    return Fleet.from_document(document, AT)


def containers() -> Fleet:
    return fleet(
        runtime="container",
        hosts=[{"name": "host-1", "address": "192.0.2.1"}],
        container={"image": {"pull": DIGEST}},
    )


def plan(of: Fleet | None = None) -> Plan:
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 4},
        "parallel": {"pipeline": 2},
    }
    return make_plan(of or fleet(), RunSpec.from_document({"run": run}, AT), "r")


def flags(made: Plan, job: str, node: str) -> list[str]:
    (command,) = [command for command in made.jobs[job] if command.node == node]
    return [str(word) for word in command.argv]


def test_a_spare_is_in_no_command_and_takes_no_rank() -> None:
    made = plan()
    nodes = {command.node for commands in made.jobs.values() for command in commands}
    assert nodes == {"node-1", "node-2"}
    assert [command.env["NODE_RANK"] for command in made.jobs["train"]] == ["0", "1"]
    assert [command.env["NNODES"] for command in made.jobs["train"]] == ["2", "2"]
    hidden = {command.node: command.hide for command in made.jobs["train"]}
    assert "/fleet/node-3" in hidden["node-1"]


def test_only_the_training_changes_when_it_goes_on_from_a_checkpoint() -> None:
    before = plan()
    after = replan.resumed(before, Resume.model_validate({"from": "r/checkpoint-2"}))
    assert {job for job in before.jobs if before.jobs[job] != after.jobs[job]} == {"train"}
    words = flags(after, "train", "node-2")
    assert words[words.index("--mcore_adapter") + 1] == "/fleet/node-2/runs/r/resume"
    assert words[words.index("--finetune") + 1] == "false"
    assert replan.resumed(after, None).to_dict() == before.to_dict()


LINES = [
    ("3.6", "full", {"load": "resume"}),
    ("3.7", "lora", {"load": "mcore", "adapter_load": "resume"}),
    ("3.9", "full", {"load": "resume"}),
    ("3.12", "lora", {"load": "mcore", "adapter_load": "resume"}),
    ("4.0", "full", {"mcore_model": "resume"}),
    ("4.6", "lora", {"mcore_model": "mcore", "mcore_adapter": "resume"}),
]


@pytest.mark.parametrize(("mode", "finetune"), [("continue", "false"), ("restart", "true")])
@pytest.mark.parametrize(("line", "tuner", "folders"), LINES)
def test_a_line_is_told_what_to_take_over_and_from_where(
    line: str, tuner: str, folders: dict[str, str], mode: str, finetune: str
) -> None:
    """``--finetune``, whose default changed with 4.0, is always said; LoRA's base stays beside."""
    nodes = [{"name": "node-1", "address": "10.0.0.1", "gpus": 2}]
    env = {"MEGATRON_LM_PATH": "/megatron"}
    gpus = fleet(runtime="host", device="gpu", line=line, env=env, nodes=nodes)
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "method": {"tuner": tuner},
        "training": {"iterations": 4},
        "resume": {"from": "other", "mode": mode},
    }
    made = make_plan(gpus, RunSpec.from_document({"run": run}, AT), "r")
    words = flags(made, "train", "node-1")
    named = {name: words[words.index(f"--{name}") + 1] for name in folders}
    assert named == {name: f"/fleet/node-1/runs/r/{folder}" for name, folder in folders.items()}
    assert words[words.index("--finetune") + 1] == finetune


def test_the_new_node_has_the_old_ones_rank_and_the_old_one_is_gone() -> None:
    after = replan.with_fleet(plan(), replan.replaced(fleet(), {"node-1": "node-3"}))
    assert [node.name for node in after.fleet.nodes] == ["node-3", "node-2"]
    trains = {command.node: command.env["NODE_RANK"] for command in after.jobs["train"]}
    assert trains == {"node-3": "0", "node-2": "1"}
    assert [command.node for command in after.jobs["convert"]] == ["node-3"]
    assert not after.fleet.spares


def test_every_node_keeps_the_address_that_its_place_gave_it() -> None:
    before = containers()
    known = {node.name: before.address(node) for node in before.nodes}
    after = replan.replaced(before, {"node-1": "node-3"})
    assert {node.name: after.address(node) for node in after.nodes} == {
        name: known[name] for name in ("node-3", "node-2")
    }


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ({"node-9": "node-3"}, "a node of the run: node-1, node-2"),
        ({"node-3": "node-3"}, "a node of the run: node-1, node-2"),
        ({"node-2": "node-9"}, "a spare: node-3"),
        ({"node-2": "node-1"}, "a node of the run already"),
    ],
)
def test_a_name_that_cannot_be_is_bad_input(pairs: dict[str, str], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        replan.replaced(fleet(), pairs)


def test_a_node_of_a_newer_fleet_file_may_come_in() -> None:
    newer = fleet(nodes=[{"name": "node-1"}, {"name": "node-2"}, {"name": "node-7"}])
    after = replan.replaced(fleet(), {"node-2": "node-7"}, newer)
    assert [node.name for node in after.members] == ["node-1", "node-7"]
    assert [node.name for node in after.spares] == ["node-3"]


def test_a_node_with_fewer_ranks_is_refused() -> None:
    nodes = [
        {"name": "node-1", "gpus": 2, "address": "10.0.0.1"},
        {"name": "node-2", "gpus": 1, "spare": True, "address": "10.0.0.2"},
    ]
    small = fleet(runtime="host", device="gpu", nodes=nodes)
    with pytest.raises(BadInputError, match="2 ranks, as node-1 has"):
        replan.replaced(small, {"node-1": "node-2"})


@pytest.mark.parametrize(
    "words", [["node-2"], ["=node-3"], ["node-2="], ["a=b", "a=c"], ["a=c", "b=c"]]
)
def test_words_that_are_no_pairs_are_bad_input(words: list[str]) -> None:
    with pytest.raises(BadInputError, match="OLD=NEW"):
        replan.parse_pairs(words)


def test_stages_are_repeated_for_what_went_with_the_node() -> None:
    every = ("fetch", "data", "convert")
    last = replan.replaced(fleet(), {"node-2": "node-3"})
    assert replan.repeated(fleet(), last) == (*every, "rollout")
    first = replan.replaced(fleet(), {"node-1": "node-3"})
    assert replan.repeated(fleet(), first) == (*every, *replan.ON_FIRST)
    assert replan.repeated(fleet(), fleet()) == ()


def test_a_fleet_of_spares_alone_is_refused() -> None:
    with pytest.raises(BadInputError, match="a node that is no spare"):
        fleet(nodes=[{"name": "node-1", "spare": True}])
