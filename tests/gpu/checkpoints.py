"""Gathers and exports of a mixed-precision training: every save ahead, whole, and weights alone.

usage: checkpoints.py FOLDER [--device cpu] [--iterations N] [--nodes 1]

The demo's model is trained with all weights, saved with its optimizer and gathered on both nodes
while training goes on. Then the last checkpoint is gathered whole and exported, and its copy
gathered without optimizer and exported: both exports must be the same bits, and each what the
checkpoint says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from pyswiftops.client import Client
from pyswiftops.demo.run import DemoFiles, DemoOptions, prepare
from pyswiftops.events import Event, EventKind
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

SAVE_EVERY = 10


def spec_of(base: RunSpec, name: str, iterations: int, gather: dict[str, Any]) -> RunSpec:
    """The demo's run with all weights, saves on the way, and an export that is proven whole."""
    document = base.model_dump(mode="json", by_alias=True, exclude_unset=True)
    training = {**document["training"], "iterations": iterations, "save_every": SAVE_EVERY}
    document |= {
        "name": name,
        "training": training,
        "output": {"save_optimizer": True},
        "gather": gather,
        "export": {"proof": "full"},
    }
    return RunSpec.from_document({"run": document}, Path.cwd() / "run.yml")


def exported(folder: Path) -> str:
    """A hash of the weights of an export."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def shards(folder: Path) -> int:
    """Bytes of all shards below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.distcp"))


def proof(folder: Path) -> str:
    """The last line of the log of an export's proof."""
    return (folder / "jobs" / "export_proof" / "log").read_text("utf-8").splitlines()[-1]


class Place:
    """Two nodes with the demo's model and rows."""

    def __init__(self, files: DemoFiles, fleet: Fleet) -> None:
        self.files, self.fleet, self.client = files, fleet, Client(files.runs)
        self.events: list[Event] = []

    def apply(self, spec: RunSpec, *stages: str) -> None:
        """Stages of a run, in turn."""
        plan = self.client.plan(self.fleet, spec)
        self.client.apply(plan, stages=stages, on_event=self.events.append)

    def on(self, node: int, run: str) -> Path:
        """A run's folder on a node."""
        return self.files.nodes / f"node-{node}" / "runs" / run


def main() -> int:
    """All of it; the last line says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--nodes", type=int, default=2, help="one GPU each")
    given = parser.parse_args()
    nodes = given.nodes
    options = DemoOptions(
        "Ada", "a team", given.folder, device=given.device, tuner="full", nodes=nodes
    )
    files, fleet, base = prepare(options)
    place = Place(files, fleet)
    whole = spec_of(base, "whole", given.iterations, {"ahead": nodes})
    place.apply(whole, "data", "convert", "train")
    for number in range(1, nodes + 1):  # before anything of the end is gathered
        source, target = place.on(number, "whole"), place.on(number, "slim")
        for name in ("train", "mcore", "data"):
            if (source / name).exists():
                shutil.copytree(source / name, target / name, symlinks=True)
    place.apply(whole, "gather", "export")
    slim = spec_of(base, "slim", given.iterations, {"what": "weights"})
    place.apply(slim, "gather", "export")
    ahead = [event.data for event in place.events if event.kind is EventKind.GATHERED]
    last = f"checkpoint-{given.iterations}"
    told = {
        run: place.client.load(run).stages["gather"]["result"].get("gathered")
        for run in ("whole", "slim")
    }
    sizes = {
        "whole": shards(place.on(1, "whole") / "train" / last),
        "weights": shards(place.on(1, "slim") / "gathered" / last),
    }
    prints = {run: exported(place.on(1, run) / "export") for run in ("whole", "slim")}
    report = {
        "ahead": ahead,
        "gathered": told,
        "bytes": sizes,
        "proof": {run: proof(place.on(1, run)) for run in ("whole", "slim")},
        "same_bits": prints["whole"] == prints["slim"],
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(
        f"RESULT device={given.device} nodes={nodes} ahead={len(ahead)} "
        f"same_bits={report['same_bits']} "
        f"whole_mb={sizes['whole'] / 1e6:.0f} weights_mb={sizes['weights'] / 1e6:.0f} "
        f"weights_of_whole={sizes['weights'] / sizes['whole']:.3f}\n"
    )
    return 0 if report["same_bits"] and ahead else 1


if __name__ == "__main__":
    sys.exit(main())
