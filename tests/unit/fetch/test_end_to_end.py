"""The stage fetch on two local nodes: from a mirror, from the controller, from the first node."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.events import Event
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "mirror/modelscope/models/master/Owner/Tiny-0.1B"
ROWS = "mirror/huggingface/datasets/v1.0/owner/rows"
ROW = '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'


@dataclass
class Lab:
    """Two local nodes, a mirror, and files of the controller."""

    folder: Path
    client: Client

    def fleet(self, **more: Any) -> Fleet:
        document = {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": "nodes",
            "nodes": [{"name": "node-1"}, {"name": "node-2"}, {"name": "node-3"}],
            **more,
        }
        return Fleet.from_document(document, self.folder / "fleet.yml")

    def fetch(self, run_id: str, fleet: Fleet, model: Any, rows: list[Any]) -> dict[str, Any]:
        """Run the stage; what run.json holds of it."""
        document = {
            "name": run_id,
            "model": model,
            "data": {"train": rows},
            "training": {"iterations": 1, "global_batch_size": 6},
        }
        spec = RunSpec.from_document({"run": document}, self.folder / "run.yml")
        plan = self.client.plan(fleet, spec)
        self.events: list[Event] = []
        result = self.client.apply(plan, stages=["fetch"], on_event=self.events.append)
        return dict(result.stages["fetch"])

    def hub(self, number: int) -> Path:
        return self.folder / "nodes" / f"node-{number}" / "hub"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "l ab"
    model = folder / MODEL
    model.mkdir(parents=True)
    config = {"model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (model / "model.safetensors").write_bytes(os.urandom(3_000_000))
    rows = folder / ROWS
    (rows / "data").mkdir(parents=True)
    (rows / "data" / "train.jsonl").write_text(ROW * 9, encoding="utf-8")
    (folder / "mine").mkdir()
    (folder / "mine" / "rows.jsonl").write_text(ROW * 5, encoding="utf-8")
    return Lab(folder, Client(folder / "runs"))


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


HUB_MODEL = {"id": "Owner/Tiny-0.1B"}
HUB_ROWS = {"id": "owner/rows", "hub": "huggingface", "revision": "v1.0", "rows": 4}


def test_a_mirror_stands_for_the_hub_and_the_second_fetch_moves_nothing(lab: Lab) -> None:
    fleet = lab.fleet(hub={"mirror": "mirror"})
    rows = [HUB_ROWS, {"path": "mine/rows.jsonl", "at": "controller"}]

    first = lab.fetch("first", fleet, HUB_MODEL, rows)

    bytes_of_one = sum(
        len(data) for part in (MODEL, ROWS) for data in tree(lab.folder / part).values()
    )
    bytes_of_one += len(ROW) * 5
    assert first["result"]["bytes"] == 3 * bytes_of_one
    for number in (1, 2, 3):
        hub = lab.hub(number)
        assert tree(hub / "modelscope/models/master/Owner/Tiny-0.1B") == tree(lab.folder / MODEL)
        assert tree(hub / "huggingface/datasets/v1.0/owner/rows") == tree(lab.folder / ROWS)
        assert [path.name for path in hub.rglob("rows.jsonl")] == ["rows.jsonl"]
        assert not list(hub.rglob("*.fetching*"))

    second = lab.fetch("second", fleet, HUB_MODEL, rows)
    assert second["result"].get("bytes", 0) == 0
