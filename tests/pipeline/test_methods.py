"""Other ways to train than SFT with Megatron, through the whole pipeline, on CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.demo.run import DemoFiles, DemoOptions, clear, prepare
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import CATALOG

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


class Prepared:
    """The demo's fleet and model, whose line the nodes tell."""

    def __init__(self, folder: Path) -> None:
        self.files, fleet, spec = prepare(DemoOptions("Ada", "a team", folder))
        self.fleet: Fleet = fleet.model_copy(update={"line": "auto"})
        self.run: dict[str, Any] = spec.model_dump(
            mode="json", by_alias=True, exclude_unset=True, exclude={"smoke"}
        )

    def apply(self, **changes: Any) -> tuple[DemoFiles, Path]:
        """Run all stages; returns the run's folder on the first node."""
        document = {**self.run, **changes}
        spec = RunSpec.from_document({"run": document}, self.files.nodes / "run.yml")
        client = Client(self.files.runs)
        plan = client.plan(self.fleet, spec)
        assert plan.fleet.line == "4.6"
        result = client.apply(plan)
        assert set(result.stages) >= set(CATALOG)
        assert {stage["state"] for stage in result.stages.values()} == {"succeeded"}
        return self.files, self.files.nodes / "node-1" / "runs" / spec.name


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Prepared]:
    demo = Prepared(tmp_path / "demo")
    yield demo
    clear(demo.files)


def test_plain_swift_on_two_nodes_merged_sampled_and_served(prepared: Prepared) -> None:
    training = {**prepared.run["training"], "iterations": 3, "epochs": None}
    training |= {"micro_batch_size": 4, "global_batch_size": 8}
    _, run = prepared.apply(
        method={"backend": "swift", "tuner": "lora"},
        parallel={},
        training=training,
        sample={"answers": 1, "max_tokens": 2},
    )
    assert not (run / "mcore").exists()
    (checkpoint,) = (run / "train").glob("checkpoint-*")
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert (run / "export" / "model.safetensors").is_file()
    asked = len(prepared.files.rows.read_text(encoding="utf-8").splitlines())
    samples = (run / "sample" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(samples) == asked
    assert all(json.loads(line)["messages"][-1]["role"] == "assistant" for line in samples)


def test_preferences_with_megatron_and_adapters_beside_the_base(
    prepared: Prepared, tmp_path: Path
) -> None:
    rows = prepared.files.rows.read_text(encoding="utf-8")
    preferred = tmp_path / "preferred.jsonl"
    with preferred.open("w", encoding="utf-8") as file:
        for line in rows.splitlines()[:16]:
            file.write(json.dumps({**json.loads(line), "rejected_response": "No."}) + "\n")
    training = {**prepared.run["training"], "iterations": 2, "epochs": None}
    training |= {"micro_batch_size": 2, "global_batch_size": 4}
    _, run = prepared.apply(
        method={"task": "rlhf", "tuner": "lora", "rlhf": {"type": "dpo", "beta": 0.1}},
        data={"train": [str(preferred)]},
        training=training,
        export={"form": "adapters"},
    )
    logged = (run / "train" / "logging.jsonl").read_text(encoding="utf-8")
    assert "rewards/margins" in logged
    assert (run / "export" / "adapter_model.safetensors").is_file()
    assert not list((run / "export").glob("model*.safetensors"))
