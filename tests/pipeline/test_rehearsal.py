"""A rehearsal on the embedded fleet: every step for real, the forecast from real sizes."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pyswiftops.rehearsal import AFTER, FIRST

from .conftest import swiftops
from .tiny import Place, make_place

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture
def place() -> Iterator[Place]:
    """In a folder with a short path: jobs make sockets far below it."""
    with tempfile.TemporaryDirectory(prefix="reh-") as folder:
        yield make_place(Path(folder))


def test_every_step_succeeds_and_a_disk_that_the_whole_run_would_fill_is_named(
    place: Place,
) -> None:
    """Two steps fit anywhere; a thousand million checkpoints fit on no disk."""
    training = {
        "iterations": 10**9,
        "save_every": 1,
        "micro_batch_size": 2,
        "global_batch_size": 4,
        "learning_rate": 1e-3,
    }
    spec = place.spec("real", training=training)
    fleet, run = place.folder / "fleet.yml", place.folder / "run.yml"
    fleet.write_text(place.fleet.to_yaml(), encoding="utf-8")
    run.write_text(yaml.safe_dump({"run": spec.model_dump(mode="json")}), encoding="utf-8")
    runs = place.folder / "runs"
    files = ("-i", str(fleet), "-r", str(run), "--runs", str(runs))
    done = swiftops("rehearse", *files, "--json", seconds=1700)
    assert done.returncode == 1, done.stderr
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)

    assert not [step for step in told["steps"] if not step["ok"]]
    names = [*FIRST, "resume", "gather again", *AFTER[2:]]
    assert [step["name"] for step in told["steps"]] == names
    assert all(math.isfinite(step["seconds"]) for step in told["steps"])
    outlook = {item["subject"]: item for item in told["outlook"]}
    assert [name for name, item in outlook.items() if item["ok"] is False] == [
        "disk of node-1, node-2"
    ]
    assert "full at save " in outlook["disk of node-1, node-2"]["detail"]
    after, before = outlook["resume"]["detail"].split(", ")
    assert after.split()[1] == before.split()[0]  # the same loss in all digits
    assert outlook["training time"]["detail"].startswith("1000000000 steps of ")

    assert not [path for path in place.folder.rglob("*") if "rehearsal" in path.name]
