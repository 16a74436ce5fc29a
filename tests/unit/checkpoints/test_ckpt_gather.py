"""``swiftops ckpt gather`` on two local nodes, through Ansible and the job that does the work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from . import trees
from .conftest import Swiftops
from .test_ckpt import settle

pytestmark = pytest.mark.slow

SHARDS = {"__0_0.distcp", "__1_0.distcp"}


@pytest.fixture
def saved(trains: list[Path]) -> list[Path]:
    """A checkpoint of two ranks, each on its own node; rank 0's node has the index."""
    trees.megatron(trains[0] / "checkpoint-10", 10, ranks=[0])
    trees.megatron(trains[1] / "checkpoint-10", 10, ranks=[1], rank0=False)
    settle(*trains)
    return [train / "checkpoint-10" for train in trains]


def shards(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.distcp")}


def asked(swiftops: Swiftops, *words: str) -> dict[str, Any]:
    done = swiftops("ckpt", "gather", "tune", *words, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_a_plan_says_who_gives_what_and_changes_nothing(
    swiftops: Swiftops, saved: list[Path], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = swiftops("ckpt", "gather", "tune", "--plan")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["node-2", "to node-1"]
    assert re.search(r"about \d+ s at \d+ MB/s", lines[-1])
    assert sorted(tmp_path.rglob("*")) == before
    assert len(saved) == 2


def test_it_goes_to_a_node_and_to_the_controller(
    swiftops: Swiftops, saved: list[Path], tmp_path: Path
) -> None:
    told = asked(swiftops, "checkpoint-10", "--to", "node-2")
    assert told["target"]["path"] == str(saved[1])  # where its own files lie
    assert shards(saved[1]) == SHARDS
    assert told["moved"] == told["bytes"] > 0

    told = asked(swiftops, "--weights-only", "--to", "node-2")
    apart = tmp_path / "nodes" / "node-2" / "gathers" / "tune" / "checkpoints" / "checkpoint-10"
    assert told["target"]["path"] == str(apart)
    assert shards(apart) == SHARDS

    place = tmp_path / "here" / "whole"
    told = asked(swiftops, "--to", f"controller:{place}")
    assert shards(place) == SHARDS
    assert told["removed"] == {}
    assert shards(saved[0]) == {"__0_0.distcp"}


def test_sources_go_once_the_copy_stands_by_itself(
    swiftops: Swiftops, saved: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "vault" / "checkpoint-10"
    told = asked(swiftops, "--to", f"node-2:{place}", "--delete-sources")
    assert shards(place) == SHARDS
    assert told["removed"] == {"node-1": [str(saved[0])], "node-2": [str(saved[1])]}
    assert not any(folder.exists() for folder in saved)


def test_sources_stay_where_the_copy_cannot_stand_for_them(
    swiftops: Swiftops, saved: list[Path], tmp_path: Path
) -> None:
    both = swiftops("ckpt", "gather", "tune", "--weights-only", "--delete-sources")
    assert both.code == 2
    (saved[0] / "args.json").unlink()  # nothing can be resumed without it
    done = swiftops(
        "ckpt", "gather", "tune", "--to", f"node-2:{tmp_path}/vault", "--delete-sources"
    )
    assert done.code == 1
    assert all(folder.exists() for folder in saved)


def test_what_is_not_whole_or_not_there_is_bad_input(
    swiftops: Swiftops, saved: list[Path], tmp_path: Path
) -> None:
    for words in (["--to", "node-9"], ["--to", "node-1:relative"], ["checkpoint-99"]):
        assert swiftops("ckpt", "gather", "tune", *words).code == 2, words
    (saved[1] / "iter_0000010" / "__1_0.distcp").unlink()
    done = swiftops("ckpt", "gather", "tune")
    assert done.code == 2
    assert "__1_0.distcp" in done.err
    assert not (tmp_path / "nodes" / "node-1" / "gathers").exists()
