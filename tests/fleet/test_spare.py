"""A node is lost for good while it trains; a spare that is not even made takes its place."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import provision
from pyswiftops.client import Client
from pyswiftops.content import module_util
from pyswiftops.errors import StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import NodePaths, RunFolder
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.store import RunStore
from pyswiftops.wheelhouse import make_wheelhouse

from .made import docker, labelled, swiftops

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.pipeline.tiny import BATCH, make_model, make_rows, steps_of

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(2400)]

STEPS, EVERY = 120, 10
SETTLE_SECONDS = module_util("checkpoints.layout").SETTLE_SECONDS
STAGES = ("fetch", "convert", "train")


@dataclass
class Place:
    """Two container nodes, and a spare that has no container yet.

    Attributes:
        folder: All of it on this machine.
        fleet: With the spare.
    """

    folder: Path
    fleet: Fleet

    @property
    def client(self) -> Client:
        """Of the runs."""
        return Client(self.folder / "runs")

    def spec(self, name: str) -> RunSpec:
        """A run whose checkpoints the first node gets whole as they are saved."""
        run: dict[str, Any] = {
            "name": name,
            "model": {
                "path": str(self.folder / "dense"),
                "at": "controller",
                "model_type": "qwen3",
                "template": "chatml",
            },
            "data": {
                "train": [{"path": str(self.folder / "rows.jsonl"), "at": "controller"}],
                "max_length": 64,
            },
            "method": {"tuner": "lora", "lora": {"dropout": 0.1}},  # it needs the random state
            "training": {
                "iterations": STEPS,
                "micro_batch_size": 2,
                "global_batch_size": BATCH,
                "save_every": EVERY,
                "learning_rate": 1e-3,
            },
            "parallel": {"pipeline": 2},
            "gather": {"ahead": 1},
        }
        return RunSpec.from_document({"run": run}, self.folder / "run.yml")

    def begin(self, name: str) -> None:
        """A run up to the end of its training."""
        self.client.apply(self.client.plan(self.fleet, self.spec(name)), stages=STAGES)

    def container(self, node: str) -> str:
        """A node's container."""
        return f"swiftops-{self.fleet.name}-{node}"

    def steps(self, name: str, node: str) -> dict[str, dict[str, Any]]:
        """What a node has logged of a run."""
        run = NodePaths(f"/data/swiftops/{node}", name)
        text = docker("exec", self.container(node), "cat", f"{run.train}/logging.jsonl")
        here = self.folder / "logged" / name
        (here / "train").mkdir(parents=True, exist_ok=True)
        (here / "train" / "logging.jsonl").write_text(text, encoding="utf-8")
        return steps_of(here)

    def told(self, name: str, kind: EventKind) -> list[dict[str, Any]]:
        """A run's events of a kind; none before there is the run."""
        if not RunFolder(self.client.runs, name).state.exists():
            return []
        events: Iterator[Event] = RunStore(RunFolder(self.client.runs, name)).events()
        return [dict(event.data) for event in events if event.kind is kind]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    wheels = Path(os.environ.get("SWIFTOPS_TEST_WHEELS") or tmp_path) / "nodes"
    make_wheelhouse(wheels)
    make_model(tmp_path / "dense")
    make_rows(tmp_path / "rows.jsonl")
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "name": "spare-try",
        "runtime": "container",
        "device": "cpu",
        "state": str(tmp_path / "state"),
        "hosts": [{"name": "host-1"}],
        "container": {
            "image": {"build": {"base": "bootstrap", "wheelhouse": str(wheels)}},
            "network": {"subnet": "172.30.61.0/24"},
        },
        "nodes": [{"name": "node-1"}, {"name": "node-2"}, {"name": "node-3", "spare": True}],
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    two = fleet.model_copy(update={"nodes": fleet.members})
    try:
        provision.up(two)
        yield Place(tmp_path, fleet)
    finally:
        provision.down(fleet, data=True, force=True)


def lose(place: Place, node: str) -> None:
    """Take a node away for good, with its disk."""
    docker("rm", "--force", place.container(node))
    docker("volume", "rm", f"{place.container(node)}-data")


def test_a_spare_is_made_and_takes_the_place_of_a_node_that_is_lost(place: Place) -> None:
    place.begin("whole")
    uninterrupted = place.steps("whole", "node-2")
    assert list(uninterrupted) == [f"{step}/{STEPS}" for step in range(1, STEPS + 1)]

    caught: list[BaseException] = []

    def train() -> None:
        try:
            place.begin("hit")
        except StageFailedError as problem:
            caught.append(problem)

    thread = threading.Thread(target=train)
    thread.start()
    end = time.monotonic() + 600
    while not (gathered := place.told("hit", EventKind.GATHERED) if thread.is_alive() else []):
        assert thread.is_alive(), caught
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    lose(place, "node-2")
    thread.join(600)
    (problem,) = caught
    assert isinstance(problem, StageFailedError)
    assert problem.node == "node-2"
    assert labelled("container", place.fleet.name) == [place.container("node-1")]

    runs = place.client.runs
    done = swiftops("resume", "hit", "--runs", runs, "--replace", "node-2=node-3", "--json")
    assert all(json.loads(line) for line in done.stdout.splitlines())  # an event a line
    there = [place.container(node) for node in ("node-1", "node-3")]
    assert sorted(labelled("container", place.fleet.name)) == there  # the lost one is let be
    (replaced,) = place.told("hit", EventKind.REPLACED)
    assert replaced["nodes"] == {"node-2": "node-3"}
    (continued,) = place.told("hit", EventKind.CONTINUED)
    assert continued["iteration"] >= gathered[0]["checkpoint"]
    after = place.steps("hit", "node-3")
    assert after == {
        step: uninterrupted[step] for step in list(uninterrupted)[continued["iteration"] :]
    }
    time.sleep(SETTLE_SECONDS)  # a file so young may still be written
    (ledger,) = json.loads(swiftops("ckpt", "ls", "hit", "--runs", runs, "--json").stdout)
    assert ledger["nodes"] == ["node-1", "node-3"]
    (last,) = [item for item in ledger["checkpoints"] if item["iteration"] == STEPS]
    assert last["resume"]["possible"], last["resume"]["reasons"]
