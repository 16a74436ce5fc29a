"""What is kept: as asked for, and never the ones that must not go, whatever is asked for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import (
    best,
    layout,
    removal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pyswiftops.checkpoints.ledger import Checkpoint, Ledger
from pyswiftops.checkpoints.merging import make_ledger
from pyswiftops.checkpoints.retention import Choice, InUse, Keep, decide
from pyswiftops.errors import BadInputError

from . import trees

NODES = ("node-1", "node-2")
NOTHING = InUse()


def record(name: str, **changes: Any) -> dict[str, Any]:
    """What a node tells of a complete checkpoint at ``/train/<name>``."""
    iteration = int(re.findall(r"checkpoint-(\d+)", name)[0])
    folder = f"iter_{iteration:07d}"
    files = [f"{folder}/{item}" for item in ("__0_0.distcp", ".metadata", "metadata.json")]
    files += ["args.json", trees.TRACKER]
    return {
        "name": name,
        "path": f"/train/{name}",
        "base": f"/train/{name}",
        "root": "/train",
        "links": [],
        "iter_dir": f"/train/{name}/{folder}",
        "iteration": iteration,
        "iterations": [iteration],
        "tracker": str(iteration),
        "files": {item: {"size": 8, "mtime_ns": 1, "identity": f"{name}/{item}"} for item in files},
        "fingerprint": "f",
        "age": 9e3,
        "half": [],
        "writing": False,
        "kind": "mcore",
        "forms": ["mcore"],
        "merged": False,
        "parallel": {},
        "swift_version": "",
        "needed": {f"{folder}/__0_0.distcp": 8},
        "needed_hf": {},
        "index_digest": "d",
        "refused": False,
        "damaged": [],
        "has_optimizer": True,
        "has_rng": True,
        "reshardable": False,
        "used_by": [],
        "problems": [],
        **changes,
    }


def ledger(*records: dict[str, Any], values: dict[str, float] | None = None) -> Ledger:
    training = {"root": "/train", "name": "", "metric": "eval_loss", "greater": False}
    told = {
        "checkpoints": list(records),
        "trainings": [{**training, "values": values or {}, "told": None}],
    }
    return make_ledger("r", ["node-1"], {"node-1": told}, {"node-1": {"/train": "train"}})


def saves(*numbers: int) -> list[dict[str, Any]]:
    return [record(f"checkpoint-{number}") for number in numbers]


def goes(choices: Sequence[Choice]) -> list[str]:
    return [choice.checkpoint.name for choice in choices if not choice.keep]


def why(choices: Sequence[Choice], name: str) -> str:
    (found,) = (choice.reason for choice in choices if choice.checkpoint.name == name)
    return found


# As asked for.


def test_the_last_ones_are_kept() -> None:
    choices = decide(ledger(*saves(10, 20, 30, 40)), Keep(last=2), NOTHING)
    assert goes(choices) == ["checkpoint-10", "checkpoint-20"]
    assert why(choices, "checkpoint-30") == "one of the last 2"
    assert why(choices, "checkpoint-10") == "old"


def test_every_kth_is_kept() -> None:
    choices = decide(ledger(*saves(10, 20, 30, 40, 50)), Keep(last=1, every=20), NOTHING)
    assert goes(choices) == ["checkpoint-10", "checkpoint-30"]


def test_the_best_is_kept_by_the_evaluations_at_checkpoints_that_are_there() -> None:
    values = {"10": 0.5, "15": 0.1, "20": 0.9, "30": 0.7}
    choices = decide(ledger(*saves(10, 20, 30), values=values), Keep(best=True), NOTHING)
    assert goes(choices) == ["checkpoint-20"]
    assert why(choices, "checkpoint-10") == "lowest eval_loss: 0.5"


def test_without_an_evaluation_the_best_is_not_guessed() -> None:
    with pytest.raises(BadInputError, match="leave --keep-best out"):
        decide(ledger(*saves(10, 20)), Keep(best=True), NOTHING)


def test_merged_weights_go_with_their_checkpoint_and_never_stand_for_it() -> None:
    merged = record("checkpoint-10-merged")
    choices = decide(ledger(*saves(10, 20), merged), Keep(), NOTHING)
    assert goes(choices) == ["checkpoint-10", "checkpoint-10-merged"]
    alone = decide(ledger(*saves(20), merged), Keep(), NOTHING)
    assert goes(alone) == []


def test_each_training_keeps_its_own() -> None:
    names = [f"v{n}-20250101-000000/checkpoint-{i}" for n in (0, 1) for i in (10, 20)]
    choices = decide(ledger(*map(record, names)), Keep(), NOTHING)
    assert goes(choices) == [names[0], names[2]]


def test_an_incomplete_old_one_goes_and_a_newer_one_stays() -> None:
    broken = [record(f"checkpoint-{n}", files={}) for n in (10, 30)]
    choices = decide(ledger(*saves(20), *broken), Keep(), NOTHING)
    assert goes(choices) == ["checkpoint-10"]
    assert why(choices, "checkpoint-30") == "newer than the newest complete one"


def test_the_newest_that_can_be_resumed_is_kept_beside_newer_weights() -> None:
    weights = record("checkpoint-30", has_optimizer=False)
    choices = decide(ledger(*saves(10, 20), weights), Keep(), NOTHING)
    assert goes(choices) == ["checkpoint-10"]


@pytest.mark.parametrize("options", [{"last": 0}, {"last": -1}, {"every": 0}])
def test_keeping_less_than_one_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadInputError, match="from 1 on"):
        Keep(**options)


def test_a_silent_node_forbids_any_decision() -> None:
    told = {"node-1": {"checkpoints": saves(10, 20)}}
    roots = {node: {"/train": "train"} for node in NODES}
    half = make_ledger("r", NODES, told, roots, {"node-2": "no route"})
    with pytest.raises(BadInputError, match="no route"):
        decide(half, Keep(), NOTHING)


def test_what_a_link_or_a_shared_tracker_names_stays(tmp_path: Path) -> None:
    for number in (10, 20, 30):
        trees.megatron(tmp_path / "old", number)
        trees.megatron(tmp_path / "new" / f"checkpoint-{number}", number)
    trees.write(tmp_path / "old" / trees.TRACKER, "10")
    (tmp_path / "new" / "last-checkpoint").symlink_to("checkpoint-20")
    told = {"node-1": layout.scan([str(tmp_path)], now_ns=time.time_ns() + 10**12)}
    found = make_ledger("r", ["node-1"], told, {"node-1": {str(tmp_path): "adopted"}})
    choices = decide(found, Keep(), NOTHING)
    assert goes(choices) == ["new/checkpoint-10", "old/iter_0000020"]
    assert why(choices, "old/iter_0000010") == f"{trees.TRACKER} names it"
    assert why(choices, "new/checkpoint-20") == "last-checkpoint names it"


def test_the_newest_of_a_living_training_says_so() -> None:
    living = InUse(training="job train on node-1 is running")
    choices = decide(ledger(*saves(10, 20)), Keep(), living)
    assert goes(choices) == ["checkpoint-10"]
    assert "job train on node-1 is running" in why(choices, "checkpoint-20")


# Never, whatever is asked for.

KINDS = ("mcore", "mcore_lora", "")
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(KINDS),
        "writing": st.booleans(),
        "files": st.just({}),
        "links": st.sampled_from([[], [], ["last-checkpoint"]]),
        "used_by": st.sampled_from([[], ["python3 (pid 1) names it"]]),
        "refused": st.booleans(),
        "iterations": st.sampled_from([[1, 2], [1]]),
        "has_optimizer": st.sampled_from([True, False, None]),
        "tracker": st.sampled_from([None, "1"]),
        "age": st.sampled_from([1.0, 9e3]),
    },
)
NAMES = st.builds(
    lambda version, number, merged: f"{version}checkpoint-{number}{merged}",
    st.sampled_from(["", "v0-20250101-000000/"]),
    st.integers(1, 40),
    st.sampled_from(["", "", "", "-merged"]),
)
OTHERS = st.builds(
    lambda name, iteration: {**record("checkpoint-1"), "name": name, "iteration": iteration},
    st.sampled_from(["notes/release", "best-model", "."]),
    st.sampled_from([None, 1]),
)
RECORDS = st.lists(
    st.one_of(st.builds(lambda name, changes: record(name, **changes), NAMES, CHANGES), OTHERS),
    max_size=12,
    unique_by=lambda item: item["name"],
)
KEEPS = st.builds(Keep, st.integers(1, 4), st.just(value=False), st.none() | st.integers(1, 30))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(RECORDS, KEEPS, st.booleans(), st.data())
def test_what_must_never_go_stays(
    records: list[dict[str, Any]], keep: Keep, living: bool, data: st.DataObject
) -> None:
    whole = ledger(*records)
    jobs = data.draw(st.lists(st.sampled_from(whole.checkpoints), max_size=2)) if records else []
    in_use = InUse(
        training="job train on node-1 is running" if living else "",
        checkpoints={item.key: "job deploy" for item in jobs},
    )
    choices = decide(whole, keep, in_use)
    assert [choice.checkpoint for choice in choices] == list(whole.checkpoints)
    gone = [choice.checkpoint for choice in choices if not choice.keep]
    for item in gone:
        assert item.kind, "an unrecognised folder"
        assert "checkpoint-" in item.name, "a folder that no training saved"
        assert not item.writing, "one that is being written"
        assert not item.conflicts, "one in conflict"
        assert not item.named_by, "one that a link names"
        assert item not in jobs, "one that a job uses"
        assert not any(held.used_by for held in item.holdings), "one that a process uses"
        training = [one for one in whole.checkpoints if one.training == item.training]
        assert _has_whole(training, gone), "the only complete one"
        if living:
            saved = [one for one in training if one.kind and one.iteration is not None]
            newest = max(one.iteration or 0 for one in saved)
            assert item.iteration != newest, "the newest of a living training"
    for choice in choices:
        assert choice.reason


def _has_whole(training: list[Checkpoint], gone: list[Checkpoint]) -> bool:
    """Whether a complete checkpoint of the training stays that is newer than all that go."""
    newest = max(item.iteration or 0 for item in gone if item in training)
    return any(
        item.complete and item not in gone and (item.iteration or 0) > newest for item in training
    )


# The training's own log.


def test_the_log_tells_the_metric_at_each_evaluation(tmp_path: Path) -> None:
    lines = [
        {"iteration": "5/20", "loss": 3.0},
        {"iteration": "10/20", "eval_loss": 2.0},
        {"iteration": "20/20", "eval_loss": 2.5},
        {"iteration": "20/20", "eval_loss": float("nan")},
        {"best_model_checkpoint": "/elsewhere/checkpoint-10", "best_metric": 2.0},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n{broken\n[]\n"
    trees.write(tmp_path / best.LOG, text)
    told = best.of_training(tmp_path)
    assert told == {
        "metric": "eval_loss",
        "greater": False,
        "values": {"10": 2.0, "20": 2.5},
        "told": 10,
    }


def test_the_metric_and_its_direction_are_those_of_the_training(tmp_path: Path) -> None:
    wanted = {"metric_for_best_model": "token_acc", "greater_is_better": True}
    trees.write(tmp_path / "args.json", wanted)
    trees.megatron(tmp_path / "checkpoint-10", 10)
    trees.megatron(tmp_path / "checkpoint-20", 20)
    lines = [
        {"iteration": f"{n}/20", "eval_token_acc": value} for n, value in ((10, 0.9), (20, 0.5))
    ]
    trees.write(tmp_path / best.LOG, "\n".join(map(json.dumps, lines)))
    told = {"node-1": layout.scan([str(tmp_path)], now_ns=time.time_ns() + 10**12)}
    found = make_ledger("r", ["node-1"], told, {"node-1": {str(tmp_path): "train"}})
    assert [item.best for item in found.checkpoints] == ["highest eval_token_acc: 0.9", ""]


def test_plain_swift_names_its_best_in_the_trainers_state(tmp_path: Path) -> None:
    for number in (10, 20):
        folder = trees.plain_swift(tmp_path / f"checkpoint-{number}")
        state = {"best_model_checkpoint": f"{tmp_path}/checkpoint-10"}
        trees.write(folder / "trainer_state.json", state)
    assert best.of_training(tmp_path)["told"] == 10


# Removal on a node.


def fingerprint(path: Path) -> str:
    base = path.parent if path.name.startswith("iter_") else path
    place = layout.Place(path, base, path.parent)
    return str(layout.describe(place, 0.0, time.time_ns())["fingerprint"])


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """A training's folder with two checkpoints."""
    train = tmp_path / "train"
    for number in (10, 20):
        trees.megatron(train / f"checkpoint-{number}", number)
    return train


RunModule = Callable[..., dict[str, Any]]


def test_exactly_the_named_folder_goes(train: Path, run_module: RunModule) -> None:
    old = train / "checkpoint-10"
    arguments = {"roots": [str(train)], "checkpoints": {str(old): fingerprint(old)}}
    would = run_module("checkpoint_prune", check=True, **arguments)
    assert (would["removed"], would["changed"]) == ([str(old)], True)
    assert old.is_dir()
    done = run_module("checkpoint_prune", **arguments)
    assert (done["removed"], done["gone"], done["changed"]) == ([str(old)], [], True)
    assert [path.name for path in train.iterdir()] == ["checkpoint-20"]
    again = run_module("checkpoint_prune", **arguments)
    assert (again["removed"], again["gone"], again["changed"]) == ([], [str(old)], False)


def test_an_iteration_goes_without_what_others_share(tmp_path: Path) -> None:
    for number in (10, 20):
        trees.megatron(tmp_path, number)
    old = tmp_path / "iter_0000010"
    told = fingerprint(old)
    trees.write(tmp_path / trees.TRACKER, "30")  # training goes on
    assert removal.obstacles([str(tmp_path)], {str(old): told}) == []
    removal.remove([str(old)])
    assert {path.name for path in tmp_path.iterdir()} == {
        "args.json",
        trees.TRACKER,
        "iter_0000020",
    }


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda train: train / ".." / "train" / "checkpoint-10", "without '..'"),
        (lambda train: train, "expected a folder named"),
        (lambda train: train.parent / "other" / "checkpoint-10", "below"),
        (lambda train: train / "link" / "checkpoint-10", "is a link"),
        (lambda train: train / "checkpoint-99", "is a link"),
        (lambda train: train / "checkpoint-7", "expected a folder"),
    ],
)
def test_what_lies_elsewhere_is_refused_and_left(
    train: Path, run_module: RunModule, spoil: Callable[[Path], Path], said: str
) -> None:
    shutil.copytree(train, train.parent / "other")
    (train / "link").symlink_to(train.parent / "other")
    (train / "checkpoint-99").symlink_to("checkpoint-10")
    trees.write(train / "checkpoint-7", "a file")
    before = sorted(train.parent.rglob("*"))
    wanted = {
        str(spoil(train)): "",
        str(train / "checkpoint-20"): fingerprint(train / "checkpoint-20"),
    }
    answer = run_module("checkpoint_prune", roots=[str(train)], checkpoints=wanted)
    assert answer["failed"]
    assert said in answer["obstacles"][0]
    assert sorted(train.parent.rglob("*")) == before


def test_one_that_has_changed_since_is_left(train: Path) -> None:
    old = train / "checkpoint-10"
    told = fingerprint(old)
    trees.write(old / "iter_0000010" / "__2_0.distcp", b"new")
    (text,) = removal.obstacles([str(train)], {str(old): told})
    assert "changed since" in text


def test_one_that_a_process_uses_is_left(train: Path) -> None:
    old = train / "checkpoint-10"
    told = fingerprint(old)
    with (old / "args.json").open() as file:
        process = subprocess.Popen(["sleep", "60"], stdin=file)
        try:
            (text,) = removal.obstacles([str(train)], {str(old): told})
        finally:
            process.kill()
            process.wait()
    assert f"sleep (pid {process.pid})" in text


def test_what_links_in_a_checkpoint_lead_to_is_left(train: Path, tmp_path: Path) -> None:
    trees.write(tmp_path / "precious" / "data", b"x")
    (train / "checkpoint-10" / "link").symlink_to(tmp_path / "precious")
    removal.remove([str(train / "checkpoint-10")])
    assert (tmp_path / "precious" / "data").exists()


def test_an_interrupted_removal_is_finished_and_its_rest_is_no_checkpoint(train: Path) -> None:
    (train / "checkpoint-10").rename(train / ".removing-checkpoint-10.1")
    trees.write(train / ".removing-notes" / "a", b"x")
    names = [item["name"] for item in layout.scan([str(train)])["checkpoints"]]
    assert names == ["checkpoint-20"]
    assert removal.remove_leftovers([train]) == [str(train / ".removing-checkpoint-10.1")]
    assert (train / ".removing-notes" / "a").exists()
