"""Weights without their optimizer, gathered from two nodes, export to the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .tiny import STEPS, Place, make_place

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
    told = place.client.load(slim).stages["gather"]["result"]["gathered"]
    assert told["left_out"] > told["moved"] > 0
