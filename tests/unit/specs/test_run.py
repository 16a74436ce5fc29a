"""The run file: what is accepted and what each mistake is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops.errors import RunSpecError
from pyswiftops.planner.parallel import check_parallel
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

MINIMAL: dict[str, Any] = {
    "name": "demo",
    "model": {"path": "models/m"},
    "data": {"train": ["rows.jsonl", "/abs/rows.jsonl"]},
    "training": {"iterations": 3},
}


def load(tmp_path: Path, **changes: Any) -> RunSpec:
    path = tmp_path / "run.yml"
    path.write_text(yaml.safe_dump({"run": {**MINIMAL, **changes}}), encoding="utf-8")
    return RunSpec.load(path)


def refused(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(RunSpecError) as caught:
        load(tmp_path, **changes)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_relative_paths_are_taken_from_the_file(tmp_path: Path) -> None:
    spec = load(tmp_path)
    assert spec.model.path == str(tmp_path / "models/m")
    assert [item.path for item in spec.data.train] == [
        str(tmp_path / "rows.jsonl"),
        "/abs/rows.jsonl",
    ]


def test_defaults_are_lora_and_an_automatic_length(tmp_path: Path) -> None:
    spec = load(tmp_path)
    assert (spec.method.tuner, spec.data.max_length, spec.deploy.host) == (
        "lora",
        "auto",
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modle": {}}, "did you mean 'model'?"),
        ({"training": {"iterations": 3, "learning_rat": 1}}, "did you mean 'learning_rate'?"),
        ({"training": {"iterations": "many"}}, "found: 'many'"),
        ({"training": {}}, "exactly one of 'iterations' and 'epochs'"),
        ({"training": {"epochs": 1.5}}, "training.epochs"),
        ({"training": {"iterations": 1, "epochs": 1}}, "exactly one of"),
        (
            {"training": {"iterations": 1, "micro_batch_size": 3, "global_batch_size": 8}},
            "that micro_batch_size divides",
        ),
        ({"method": {"tuner": "qlora"}}, "'lora' or 'full'"),
        ({"data": {"train": []}}, "at least 1 item"),
        ({"data": {"train": ["a"], "max_length": 0}}, "at least 1 token"),
        ({"deploy": {"port": 70000}}, "a port from 1 to 65535"),
        ({"deploy": {"host": "192.0.2.1"}}, "a loopback address"),
        ({"name": "../up"}, "name"),
        ({"extra_args": {"trian": {}}}, "extra_args"),
        ({"parallel": {"tensor": 0}}, "greater than or equal to 1"),
    ],
)
def test_each_mistake_names_itself(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, **changes)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, modle={}, dat={})
    assert "unknown key 'modle'" in message
    assert "unknown key 'dat'" in message


def test_the_run_stands_below_one_key(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text(yaml.safe_dump(MINIMAL), encoding="utf-8")
    with pytest.raises(RunSpecError, match="one top-level key 'run:'"):
        RunSpec.load(path)


def test_a_spec_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).name = "other"  # type: ignore[misc]


def test_the_examples_are_valid(checkout: Path) -> None:
    fleet = Fleet.load(checkout / "inventory" / "example" / "fleet.yml")
    spec = RunSpec.load(checkout / "inventory" / "example" / "run.yml")
    assert sum(fleet.ranks(node) for node in fleet.nodes) == 32
    findings = check_parallel(spec, 32, {"num_attention_heads": 28, "num_hidden_layers": 28})
    assert findings == []
    assert Fleet.load(checkout / "inventory" / "local" / "fleet.yml").device == "cpu"


def test_training_may_have_variables_of_its_own(tmp_path: Path) -> None:
    env = {"NCCL_P2P_DISABLE": 1, "NCCL_DEBUG": "INFO"}
    spec = load(tmp_path, training={"iterations": 3, "env": env})
    assert spec.training.env == {"NCCL_P2P_DISABLE": "1", "NCCL_DEBUG": "INFO"}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"NODE_RANK": "1"}, "NODE_RANK is set"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES is set"),
        ({"A B": "1"}, "'A B' is none"),
        ({"WANDB_API_KEY": "x"}, "no secrets in a run file"),
        ({"HF_TOKEN": "x"}, "no secrets in a run file"),
        ({"NCCL_DEBUG": True}, "NCCL_DEBUG"),
    ],
)
def test_variables_that_cannot_be_set_are_refused(
    tmp_path: Path, env: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, training={"iterations": 3, "env": env})


def test_a_negative_hang_timeout_is_refused(tmp_path: Path) -> None:
    assert "hang_timeout" in refused(tmp_path, training={"iterations": 3, "hang_timeout": -1})


@pytest.mark.parametrize(
    ("source", "run", "checkpoint"),
    [
        ("first", "first", None),
        ("first/checkpoint-20", "first", "checkpoint-20"),
        ("/checkpoints/first", None, None),
    ],
)
def test_resume_names_a_run_one_of_its_checkpoints_or_a_path(
    tmp_path: Path, source: str, run: str | None, checkpoint: str | None
) -> None:
    resume = load(tmp_path, resume={"from": source}).resume
    assert resume is not None
    assert (resume.run, resume.checkpoint, resume.mode) == (run, checkpoint, "continue")


@pytest.mark.parametrize(
    ("resume", "said"),
    [
        ({"from": "../first"}, "RUN, RUN/checkpoint-N or an absolute path"),
        ({"from": "first/20"}, "RUN, RUN/checkpoint-N or an absolute path"),
        ({"from": "first", "mode": "again"}, "resume.mode"),
        ({"form": "first"}, "did you mean 'from'?"),
        ({}, "key 'from'"),
    ],
)
def test_a_resume_that_names_nothing_is_refused(
    tmp_path: Path, resume: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, resume=resume)


def test_a_run_spec_with_a_resume_survives_json(tmp_path: Path) -> None:
    spec = load(tmp_path, resume={"from": "first"})
    assert RunSpec.model_validate(spec.model_dump(mode="json")) == spec
