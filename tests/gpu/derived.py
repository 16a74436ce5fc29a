"""Further training runs on what a demo left: its model, rows, lengths and converted checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyswiftops.client import Client
from pyswiftops.demo.run import RUN_ID, DemoFiles
from pyswiftops.planner.plan import Plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.train import MAX_LENGTH


@dataclass
class Demo:
    """A demo that has been run to its end, in ``folder``."""

    folder: Path

    def __post_init__(self) -> None:
        self.files = DemoFiles(self.folder.resolve())
        self.fleet = Fleet.load(self.files.fleet)
        self.spec = RunSpec.load(self.files.run)
        self.client = Client(self.files.runs)
        self.names = [node.name for node in self.fleet.nodes]
        lengths = self.node(self.names[0], RUN_ID) / "data" / "lengths.json"
        self.lengths: dict[str, Any] = json.loads(lengths.read_text(encoding="utf-8"))

    def node(self, name: str, run_id: str) -> Path:
        """A run's files on a node."""
        return self.files.nodes / name / "runs" / run_id

    def plan(self, run_id: str, **training: Any) -> Plan:
        """A plan of the same training under another id, with other settings."""
        for name in self.names:
            shutil.rmtree(self.node(name, run_id), ignore_errors=True)
            self.node(name, run_id).mkdir(parents=True)
            (self.node(name, run_id) / "mcore").symlink_to(self.node(name, RUN_ID) / "mcore")
        shutil.rmtree(self.files.runs / run_id, ignore_errors=True)
        length = self.lengths[MAX_LENGTH.name.split(".")[1]]
        document = self.spec.model_dump(mode="json")
        document["data"]["max_length"] = length
        document["training"].update(training)
        document["name"] = run_id
        spec = RunSpec.from_document({"run": document}, self.files.run)
        return self.client.plan(self.fleet, spec, run_id)

    def train(self, plan: Plan) -> float:
        """Run the stage ``train``; return its seconds."""
        begin = time.monotonic()
        self.client.apply(plan, stages=["train"])
        return time.monotonic() - begin

    def state(self, name: str, run_id: str) -> dict[str, Any]:
        """The training job's state file on a node, or nothing yet."""
        try:
            path = self.node(name, run_id) / "jobs" / "train" / "state.json"
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data

    def steps(self, run_id: str) -> list[dict[str, Any]]:
        """Lines of the training log, on whichever node it is."""
        for name in self.names:
            path = self.node(name, run_id) / "train" / "logging.jsonl"
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines()
                return [line for line in map(json.loads, lines) if "iteration" in line]
        return []


def wait_for(what: Callable[[], Any], seconds: float, why: str) -> Any:
    """Poll until ``what()`` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"not within {seconds:g} s: {why}")


def gpu_memory() -> list[int]:
    """MiB in use on every GPU; nothing on a machine without."""
    argv = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [int(line) for line in done.stdout.split()]
