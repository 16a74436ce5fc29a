"""Who gives what, and which checkpoints are refused before anything moves."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.checkpoints import Made
from pyswiftops.errors import BadInputError
from pyswiftops.filters.checkpoints import gather_request
from pyswiftops.planner.gathering import GatherPlan, Options, Target, choose, plan_gather

pytestmark = pytest.mark.slow  # torch writes the checkpoints

Told = Callable[[], dict[str, Any]]
REACH = {f"node-{number}": {"remote": None, "python": "python3"} for number in (1, 2, 3)}
INDEX = "iter_0000010/.metadata"


def plan(told: dict[str, Any], target: Target | None = None, **options: Any) -> GatherPlan:
    chosen = choose(told, "", time.time())
    place = target or Target("node-1", chosen.copies[0].path)
    return plan_gather(chosen.copies, REACH, place, Options(**options))


def test_the_target_keeps_its_own_and_others_give_theirs(told: Told) -> None:
    found = plan(told())
    assert found.takes == {
        "node-2": ("iter_0000010/__1_0.distcp", "iter_0000010/__1_1.distcp"),
        "node-3": ("iter_0000010/__2_0.distcp", "iter_0000010/__2_1.distcp"),
    }
    assert found.request["tracker"] == "10"


def test_elsewhere_all_nodes_give_and_the_index_comes_from_its_writer(told: Told) -> None:
    found = plan(told(), Target("node-2", "/elsewhere"))
    assert list(found.takes) == ["node-1", "node-2", "node-3"]
    assert INDEX in found.takes["node-1"]
    assert "latest_checkpointed_iteration.txt" in found.takes["node-1"]


def test_a_file_that_several_nodes_see_is_given_once(told: Told, made: Made) -> None:
    for number in (1, 2):
        shutil.rmtree(made.folders[number])
        shutil.copytree(made.folders[0], made.folders[number])  # as a shared disk shows it
    shards = {"iter_0000010/__0_0.distcp", "iter_0000010/__0_1.distcp"}
    answers = told()
    for answer in answers.values():
        needed = answer["checkpoints"][0]["needed"]
        answer["checkpoints"][0]["needed"] = {name: needed[name] for name in shards}
    found = plan(answers, Target("controller", "/elsewhere"))
    given = [name for names in found.takes.values() for name in names if name in shards]
    assert sorted(given) == sorted(shards)


def refused(told: dict[str, Any]) -> str:
    with pytest.raises(BadInputError) as caught:
        plan(told)
    return str(caught.value)


def test_a_missing_index_is_named(told: Told, made: Made) -> None:
    made.index.unlink()
    assert "expected: iter_0000010/.metadata on a node" in refused(told())


def test_a_lost_node_is_told_by_its_shards(told: Told, made: Made) -> None:
    shutil.rmtree(made.folders[2])
    said = refused(told())
    assert "__2_0.distcp" in said
    assert "__2_1.distcp" in said


def test_a_node_that_does_not_answer_holds_nothing(told: Told) -> None:
    answers = {**told(), "node-3": {"unreachable": True, "msg": "No route to host"}}
    with pytest.raises(BadInputError, match=r"__2_0\.distcp") as caught:
        gather_request(answers, REACH, to="node-1", gathered="/elsewhere")
    assert "__1_0.distcp" not in str(caught.value)


def test_a_truncated_shard_is_named_with_its_node(told: Told, made: Made) -> None:
    os.truncate(made.shard(1), 1000)
    said = refused(told())
    assert "__1_0.distcp" in said
    assert "found: 1000 bytes" in said
    assert f"node-2:{made.folders[1]}" in said


def test_two_different_indexes_are_refused(told: Told, made: Made) -> None:
    other = made.folders[1] / INDEX
    other.write_bytes(made.index.read_bytes() + b"\0")
    assert "different ones on node-1, node-2" in refused(told())


def test_shards_of_an_older_save_are_refused_by_their_time(told: Told, made: Made) -> None:
    before = time.time() - 7200
    os.utime(made.shard(2), (before, before))
    said = refused(told())
    assert "1 that were written up to 7" in said
    assert "--any-time" in said
    assert plan(told(), any_time=True).takes["node-3"]


def test_a_clock_that_is_wrong_is_no_older_save(told: Told, made: Made) -> None:
    ahead = time.time() + 7200
    for number in (0, 1):
        os.utime(made.shard(2, number), (ahead, ahead))
    answers = told()
    answers["node-3"]["now"] = ahead
    for name in ("node-1", "node-2"):
        answers[name]["now"] = time.time()
    assert plan(answers).takes["node-3"]


def test_a_shard_that_differs_between_nodes_is_refused(told: Told, made: Made) -> None:
    copy = made.folders[2] / "iter_0000010" / "__1_0.distcp"
    shutil.copy(made.shard(1), copy)  # a new time: not a copy that a gather made
    assert "files of different sizes or times on node-2, node-3" in refused(told())


def test_a_malicious_index_is_refused_and_not_run(told: Told, made: Made, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "bomb"),))

    made.index.write_bytes(pickle.dumps(Bomb()))
    said = refused(told())
    assert "mkdir" in said
    assert not (tmp_path / "bomb").exists()


def test_an_unknown_name_lists_what_there_is(told: Told) -> None:
    with pytest.raises(BadInputError, match="found: checkpoint-10"):
        choose(told(), "checkpoint-20", time.time())
