"""The module ``resume_from``: which checkpoint, whether it fits, and that taking it is safe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]
TRACKER = "latest_checkpointed_iteration.txt"


def checkpoint(
    train: Path, number: int, *, whole: bool = True, args: dict[str, Any] | None = None
) -> Path:
    """A checkpoint as rank 0's node holds it; one that was not saved to its end has no tracker."""
    folder = train / f"checkpoint-{number}"
    shards = folder / f"iter_{number:07d}"
    shards.mkdir(parents=True)
    (shards / "__0_0.distcp").write_text(f"shard of {number}", encoding="utf-8")
    (folder / "args.json").write_text(json.dumps(args or {}), encoding="utf-8")
    if whole:
        (folder / TRACKER).write_text(str(number), encoding="utf-8")
    return folder


@pytest.fixture
def take(run_module: RunModule, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(**more: Any) -> dict[str, Any]:
        folders = {"source": str(tmp_path / "train"), "dest": str(tmp_path / "resume")}
        return run_module("resume_from", **{**folders, "must_exist": True, **more})

    return run


Take = Callable[..., dict[str, Any]]


def held(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_latest_that_was_saved_to_its_end_is_taken_by_link(take: Take, tmp_path: Path) -> None:
    for number in (9, 10):
        checkpoint(tmp_path / "train", number)
    checkpoint(tmp_path / "train", 11, whole=False)
    answer = take()
    assert (answer["name"], answer["iteration"], answer["linked"]) == ("checkpoint-10", 10, 3)
    shard = "iter_0000010/__0_0.distcp"
    assert held(tmp_path / "resume") == ["args.json", shard, TRACKER]
    original = tmp_path / "train" / "checkpoint-10" / shard
    assert original.samefile(tmp_path / "resume" / shard)


def test_a_checkpoint_by_name_and_by_its_own_path(take: Take, tmp_path: Path) -> None:
    for number in (2, 4):
        checkpoint(tmp_path / "train", number)
    assert take(checkpoint="checkpoint-2")["iteration"] == 2
    own = str(tmp_path / "train" / "checkpoint-4")
    other = str(tmp_path / "other")
    assert take(source=own, dest=other)["iteration"] == 4


def test_what_was_taken_once_stays_when_a_later_checkpoint_comes(
    take: Take, tmp_path: Path
) -> None:
    checkpoint(tmp_path / "train", 2)
    take()
    checkpoint(tmp_path / "train", 4)
    again = take()
    assert (again["iteration"], again["name"], again["changed"]) == (2, "checkpoint-2", False)


def test_one_that_is_asked_for_by_name_takes_the_place_of_another(
    take: Take, tmp_path: Path
) -> None:
    for number in (2, 4):
        checkpoint(tmp_path / "train", number)
    take(checkpoint="checkpoint-2")
    answer = take(checkpoint="checkpoint-4")
    assert (answer["iteration"], answer["dropped"], answer["changed"]) == (4, True, True)
    assert held(tmp_path / "resume") == ["args.json", "iter_0000004/__0_0.distcp", TRACKER]
    assert len(held(tmp_path / "train")) == 6  # the source is as it was
    again = take(checkpoint="checkpoint-4")
    assert (again["dropped"], again["changed"]) == (False, False)


def test_a_node_that_has_nothing_of_it_loses_what_it_had_of_another(
    take: Take, tmp_path: Path
) -> None:
    checkpoint(tmp_path / "train", 2)
    take()
    answer = take(checkpoint="checkpoint-4", must_exist=False)
    assert (answer["checkpoint"], answer["dropped"]) == ("", True)
    assert not (tmp_path / "resume").exists()


@pytest.mark.parametrize("rank0", [True, False])
def test_one_of_several_iterations_in_a_folder_as_lines_up_to_3_11_have_them(
    take: Take, tmp_path: Path, rank0: bool
) -> None:
    train = tmp_path / "train"
    for number in (2, 4):
        shards = train / f"iter_{number:07d}"
        shards.mkdir(parents=True)
        (shards / "__0_0.distcp").write_text(f"shard of {number}", encoding="utf-8")
    if rank0:
        (train / "args.json").write_text("{}", encoding="utf-8")
        (train / TRACKER).write_text("4", encoding="utf-8")
    answer = take(checkpoint="checkpoint-2", must_exist=rank0)
    small = ["args.json", TRACKER] if rank0 else []
    assert held(tmp_path / "resume") == sorted(["iter_0000002/__0_0.distcp", *small])
    assert answer["iteration"] == (2 if rank0 else 0)
    if rank0:
        assert (tmp_path / "resume" / TRACKER).read_text(encoding="utf-8") == "2"
        assert (train / TRACKER).read_text(encoding="utf-8") == "4"


def test_a_link_that_cannot_be_made_is_a_copy(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file system cannot be mounted here: the call that would say so says so."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    source = checkpoint(tmp_path / "train", 2)
    monkeypatch.setattr(os, "link", refuse)
    answer = take()
    assert (answer["linked"], answer["copied"]) == (0, 3)
    assert held(tmp_path / "resume") == held(source)


def test_a_node_without_it_takes_nothing_and_the_first_one_says_where(
    take: Take, tmp_path: Path
) -> None:
    assert take(must_exist=False, checkpoint="checkpoint-2")["linked"] == 0
    answer = take()
    assert answer["failed"]
    assert str(tmp_path / "train") in answer["msg"]
    assert "resume.from" in answer["msg"]
    assert set(answer["findings"][0]) == {"expected", "found", "where", "remedy"}
    assert not (tmp_path / "resume").exists()


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        ({"tuner_type": "lora"}, 'tuner_type "full" in the checkpoint, "lora" in this run'),
        ({"no_save_optim": False}, "no_save_optim true in the checkpoint, false in this run"),
        ({"pipeline_model_parallel_size": 2}, "pipeline_model_parallel_size 1 in the checkpoint"),
    ],
)
def test_one_that_does_not_fit_is_refused_and_nothing_is_taken(
    take: Take, tmp_path: Path, needed: dict[str, Any], said: str
) -> None:
    args = {"tuner_type": "full", "no_save_optim": True, "pipeline_model_parallel_size": 1}
    checkpoint(tmp_path / "train", 2, args=args)
    answer = take(needed=needed)
    assert said in answer["msg"]
    assert not (tmp_path / "resume").exists()
    assert not take(needed={"unheard_of": 1, "tuner_type": "full"}).get("failed")


def test_converted_weights_are_no_training_to_go_on_from(take: Take, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "train", 2)
    (folder / TRACKER).write_text("release", encoding="utf-8")
    assert "'release'" in take()["msg"]


def test_check_mode_takes_nothing(run_module: RunModule, tmp_path: Path) -> None:
    checkpoint(tmp_path / "train", 2)
    folders = {"source": str(tmp_path / "train"), "dest": str(tmp_path / "resume")}
    assert run_module("resume_from", check=True, must_exist=True, **folders)["iteration"] == 2
    assert not (tmp_path / "resume").exists()
    run_module("resume_from", must_exist=True, **folders)
    checkpoint(tmp_path / "train", 4)
    run_module("resume_from", check=True, must_exist=True, checkpoint="checkpoint-4", **folders)
    assert "iter_0000002/__0_0.distcp" in held(tmp_path / "resume")
