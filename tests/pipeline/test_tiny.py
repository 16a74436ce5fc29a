"""Training on two CPU nodes with tiny models: resumed losses, a mixture of experts, packing."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from pathlib import Path

import pytest

from pyswiftops.errors import BadInputError, StageFailedError
from pyswiftops.paths import RunFolder

from .conftest import running
from .test_failure import rank_of, state, wait_for
from .tiny import BATCH, ROWS, SAVED, STEPS, Place, make_place

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = make_place(tmp_path_factory.mktemp("tiny"))
    made.apply(made.spec("full"), "convert")
    return made


def shards(checkpoint: Path) -> set[str]:
    return {path.name for path in checkpoint.rglob("*.distcp")}


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_a_resumed_training_logs_what_an_uninterrupted_one_does(place: Place, tuner: str) -> None:
    """Never gathered: each node holds the shards of its own rank, and the first one the index."""
    whole, rest = tuner, f"{tuner}-resumed"
    if tuner == "lora":
        place.share_base(whole, "full")
    place.share_base(rest, "full")
    place.apply(place.spec(whole, tuner=tuner), "train")
    resume = {"from": f"{whole}/checkpoint-{SAVED}"}
    place.apply(place.spec(rest, tuner=tuner, resume=resume), "train")

    uninterrupted, resumed = place.steps(whole), place.steps(rest)
    assert list(uninterrupted) == ["1/4", "2/4", "3/4", "4/4"]
    assert resumed == {step: uninterrupted[step] for step in ("3/4", "4/4")}
    assert len({row["loss"] for row in uninterrupted.values()}) == STEPS

    recorded = place.client.load(rest).stages["train"]["result"]["resumed_from"]
    source = place.on(1, whole) / "train" / f"checkpoint-{SAVED}"
    assert recorded == {"checkpoint": str(source), "iteration": SAVED}
    ranks = {name.split("_")[2] for name in shards(place.on(2, rest) / "resume")}
    assert ranks == {"0", "1"}
    assert shards(place.on(1, rest) / "resume") == shards(place.on(2, rest) / "resume")
    own = f"iter_{SAVED:07d}/__1_0.distcp"
    there = place.on(2, whole) / "train" / f"checkpoint-{SAVED}" / own
    assert there.samefile(place.on(2, rest) / "resume" / own)  # a link: no room is lost
    assert {name.split("_")[2] for name in shards(source)} == {"0"}  # the source is as it was


def test_a_training_goes_on_with_another_pipeline_size(place: Place) -> None:
    """Two stages become two replicas: the same rows a step, added up in another order."""
    place.share_base("replicas", "full")
    resume = {"from": f"full/checkpoint-{SAVED}"}
    place.apply(place.spec("replicas", resume=resume, parallel={"pipeline": 1}), "train")
    uninterrupted, resumed = place.steps("full"), place.steps("replicas")
    assert list(resumed) == ["3/4", "4/4"]
    for step, row in resumed.items():
        assert row == pytest.approx(uninterrupted[step], rel=1e-4)
    assert len({row["loss"] for row in uninterrupted.values()}) == STEPS


def test_a_checkpoint_of_another_tuner_is_refused_before_anything_starts(place: Place) -> None:
    spec = place.spec("wrong", tuner="lora", resume={"from": "full"})
    with pytest.raises(BadInputError, match='tuner_type "full" in the checkpoint, "lora"'):
        place.client.plan(place.fleet, spec)
    assert not place.on(1, "wrong").exists()


def test_a_mixture_of_experts_trains_with_its_experts_on_two_nodes(place: Place) -> None:
    training = {
        "iterations": 2,
        "micro_batch_size": 2,
        "global_batch_size": BATCH,
        "learning_rate": 1e-2,
    }
    spec = place.spec("moe", moe=True, parallel={"expert": 2}, training=training)
    place.apply(spec, "convert", "train", "gather")
    losses = [row["loss"] for row in place.steps("moe").values()]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert losses[1] < losses[0]
    ranks = {name.split("_")[2] for name in shards(place.on(1, "moe") / "train")}
    assert ranks == {"0", "1"}


def test_packing_puts_several_rows_into_one(place: Place) -> None:
    place.share_base("packed", "full")
    training = {"epochs": 1, "micro_batch_size": 1, "global_batch_size": 2, "learning_rate": 1e-3}
    extra = {"train": {"packing": True}}
    place.apply(place.spec("packed", training=training, extra_args=extra), "train")
    steps = place.steps("packed")
    assert all(math.isfinite(row["loss"]) for row in steps.values())
    total = int(next(iter(steps)).split("/")[1])
    assert 0 < total < ROWS / 2


def test_a_stopped_rank_is_named_and_what_all_ranks_did_is_kept(place: Place) -> None:
    place.share_base("stuck", "full")
    training = {
        "iterations": 5000,
        "micro_batch_size": 2,
        "global_batch_size": BATCH,
        "learning_rate": 1e-6,
        "hang_timeout": 20,
    }
    spec = place.spec("stuck", training=training)
    jobs = [place.on(number, "stuck") / "jobs" / "train" for number in (1, 2)]
    caught: list[BaseException] = []

    def train() -> None:
        try:
            place.apply(spec, "train")
        except StageFailedError as problem:
            caught.append(problem)

    thread = threading.Thread(target=train)
    thread.start()
    log = place.on(2, "stuck") / "train" / "logging.jsonl"
    wait_for(lambda: log.exists() and log.read_text(encoding="utf-8").count('"loss"') > 2, 180)
    victim = wait_for(lambda: rank_of(jobs[1]), 10)
    started = {pid for job in jobs for pid, _ in state(job)["descendants"]}
    assert victim in started
    os.kill(victim, signal.SIGSTOP)
    thread.join(120)
    (problem,) = caught
    assert isinstance(problem, StageFailedError)
    assert problem.node == "node-2"
    assert state(jobs[1])["reason"]["kind"] == "hung"
    assert not running(started)
    folder = RunFolder(place.client.runs, "stuck")
    page = folder.hang("train").read_text(encoding="utf-8")
    assert str(folder.hang("train")) in str(problem)
    assert "held up by: rank 1 on node-2" in page
    reports = json.loads(folder.hang_data("train").read_text(encoding="utf-8"))
    (stopped,) = reports["node-2"]["ranks"]
    (waiting,) = reports["node-1"]["ranks"]
    assert (stopped["pid"], stopped["state"]) == (victim, "T")
    assert waiting["frames"]  # py-spy saw where it waits
