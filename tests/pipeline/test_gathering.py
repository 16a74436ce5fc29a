"""Gathers of a real training: weights alone export to the same bits; saves while it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pyswiftops.events import EventKind

from .tiny import BATCH, SAVED, STEPS, Place, make_place

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = make_place(tmp_path_factory.mktemp("weights"))
    made.apply(made.spec("base"), "convert")
    return made


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted((folder / "export").glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.distcp"))


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_weights_alone_export_to_the_same_bits(place: Place, tuner: str) -> None:
    whole, slim = f"{tuner}-whole", f"{tuner}-slim"
    for run in (whole, slim):
        place.share_base(run, "base")
    place.apply(place.spec(whole, tuner=tuner), "train")
    for number in (1, 2):  # the same checkpoint, once gathered whole and once without optimizer
        shutil.copytree(
            place.on(number, whole) / "train", place.on(number, slim) / "train", symlinks=True
        )
    place.apply(place.spec(whole, tuner=tuner), "gather", "export")
    place.apply(place.spec(slim, tuner=tuner, gather={"what": "weights"}), "gather", "export")

    checkpoint = place.on(1, slim) / "gathered" / f"checkpoint-{STEPS}"
    assert (checkpoint / "latest_checkpointed_iteration.txt").read_text() == str(STEPS)
    all_of_it = place.on(1, whole) / "train" / f"checkpoint-{STEPS}"
    assert bytes_of(checkpoint) < 0.4 * bytes_of(all_of_it)
    one, other = exported(place.on(1, whole)), exported(place.on(1, slim))
    assert one
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for run in (whole, slim):
        log = place.on(1, run) / "jobs" / "export_proof" / "log"
        assert "25 tensors as the checkpoint has them, 0 differ, 0 not compared" in log.read_text()
    told = place.client.load(slim).stages["gather"]["result"]["gathered"]
    assert told["left_out"] > told["moved"] > 0


def test_a_checkpoint_is_gathered_while_training_goes_on(place: Place) -> None:
    """Both nodes have the first save whole, before the stage gather is run."""
    place.share_base("ahead", "base")
    told = []
    training = {
        "iterations": 120,  # long enough for the first save to be brought
        "micro_batch_size": 2,
        "global_batch_size": BATCH,
        "save_every": SAVED,
        "learning_rate": 1e-3,
    }
    spec = place.spec("ahead", gather={"ahead": 2}, training=training)
    place.client.apply(place.client.plan(place.fleet, spec), stages=["train"], on_event=told.append)
    event = next(event for event in told if event.kind is EventKind.GATHERED)
    saved = event.data["checkpoint"]
    assert saved % SAVED == 0
    assert event.data["nodes"] == ["node-1", "node-2"]
    assert event.data["moved"] > 0
    ledger = place.client.checkpoints.ls("ahead")
    (found,) = [item for item in ledger.checkpoints if item.iteration == saved]
    assert found.resume.possible
    shards = {
        number: {path.name for path in (place.on(number, "ahead") / "train").rglob("*.distcp")}
        for number in (1, 2)
    }
    assert shards[1] >= {"__0_0.distcp", "__1_0.distcp"}
    tracker = f"checkpoint-{saved}/latest_checkpointed_iteration.txt"
    assert (place.on(2, "ahead") / "train" / tracker).read_text() == str(saved)
