"""The stage fetch on two local nodes: from a mirror, from the controller, from the first node."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.errors import BadInputError, StageFailedError
from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

from .hub_server import Hub, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "mirror/modelscope/models/master/Owner/Tiny-0.1B"
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
            "nodes": [{"name": "node-1"}, {"name": "node-2"}],
            **more,
        }
        return Fleet.from_document(document, self.folder / "fleet.yml")

    def fetch(
        self, run_id: str, fleet: Fleet, model: Any, rows: list[Any], **more: Any
    ) -> dict[str, Any]:
        """Run the stage; what run.json holds of it."""
        document = {
            "name": run_id,
            "model": model,
            "data": {"train": rows},
            "training": {"iterations": 1, "global_batch_size": 2},
            "parallel": more.get("parallel", {}),
        }
        spec = RunSpec.from_document({"run": document}, self.folder / "run.yml")
        checked = more.get("checked", False)
        plan = self.client.plan(fleet, spec) if checked else make_plan(fleet, spec, run_id)
        again = bool(more.get("again"))
        result = self.client.apply(plan, stages=["fetch"], again=again)
        return dict(result.stages["fetch"])

    def hub(self, number: int) -> Path:
        return self.folder / "nodes" / f"node-{number}" / "hub"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "l ab"
    model = folder / MODEL
    model.mkdir(parents=True)
    config = {"model_type": "llama", "num_attention_heads": 3, "num_hidden_layers": 2}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (model / "model.safetensors").write_bytes(os.urandom(3_000_000))
    (folder / "folder" / "data").mkdir(parents=True)
    (folder / "folder" / "data" / "train.jsonl").write_text(ROW * 9, encoding="utf-8")
    (folder / "mine").mkdir()
    (folder / "mine" / "rows.jsonl").write_text(ROW * 5, encoding="utf-8")
    return Lab(folder, Client(folder / "runs"))


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_mirror_stands_for_the_hub_and_only_what_is_lacking_is_moved(lab: Lab) -> None:
    fleet = lab.fleet(hub={"mirror": "mirror"})
    mine, folder = lab.folder / "mine" / "rows.jsonl", lab.folder / "folder"
    model = {"id": "Owner/Tiny-0.1B"}
    rows = [{"path": str(mine), "at": "controller"}, {"path": str(folder), "at": "first_node"}]
    weights = (lab.folder / MODEL / "model.safetensors").read_bytes()
    cut_off = lab.hub(2) / "modelscope/models/master/Owner/.Tiny-0.1B.fetching"
    cut_off.mkdir(parents=True)
    (cut_off / ".model.safetensors.part").write_bytes(weights[:1_000_000])

    first = lab.fetch("first", fleet, model, rows)

    size = sum(len(data) for data in tree(lab.folder / MODEL).values())
    assert first["result"]["bytes"] == 2 * (size + 5 * len(ROW)) + 9 * len(ROW)
    for number in (1, 2):
        hub = lab.hub(number)
        assert tree(hub / "modelscope/models/master/Owner/Tiny-0.1B") == tree(lab.folder / MODEL)
        (copy,) = hub.glob("controller/datasets/*/rows.jsonl")
        assert copy.read_text(encoding="utf-8") == ROW * 5
        assert not list(hub.rglob("*.fetching*"))
    assert not (lab.hub(1) / "first_node").exists()  # it is read where it lies
    (copy,) = lab.hub(2).glob("first_node/datasets/*/folder")
    assert tree(copy) == tree(folder)

    config = lab.hub(2) / "modelscope/models/master/Owner/Tiny-0.1B/config.json"
    size = config.stat().st_size
    config.unlink()
    mine.write_text(ROW * 6, encoding="utf-8")
    mended = lab.fetch("mended", fleet, model, rows)
    assert mended["result"]["bytes"] == size + 2 * 6 * len(ROW)
    assert tree(config.parent) == tree(lab.folder / MODEL)


def test_a_download_reaches_all_nodes_and_its_token_no_file(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = lab.folder / MODEL
    mark = "token-that-is-found-nowhere"
    monkeypatch.setenv("HF_TOKEN", mark)
    model = {"id": "Owner/Tiny-0.1B", "hub": "huggingface"}
    rows = ["mine/rows.jsonl"]
    with serving(Hub({"models/Owner/Tiny-0.1B": repository}, mark)) as hub:
        fleet = lab.fleet(hub={"huggingface_endpoint": hub.url})
        with pytest.raises(StageFailedError, match="divides the model's 3 attention heads"):
            lab.fetch("too-wide", fleet, model, rows, parallel={"tensor": 2})
        folders = [lab.hub(n) / "huggingface/models/main/Owner/Tiny-0.1B" for n in (1, 2)]
        assert [tree(folder) for folder in folders] == [tree(repository)] * 2

        hub.log.clear()
        kept = lab.fetch("kept", fleet, model, rows)
        assert (kept["result"].get("bytes", 0), hub.log) == (0, [])

        (repository / "generation_config.json").write_text("{}", encoding="utf-8")
        again = lab.fetch("kept", fleet, model, rows, again=True)
        assert hub.sent[-1:] == ["generation_config.json"]
        assert hub.sent.count("model.safetensors") == 1
        assert again["result"]["bytes"] == 2
        assert [tree(folder) for folder in folders] == [tree(repository)] * 2

    written = [path for path in lab.folder.rglob("*") if path.is_file()]
    assert len(written) > 100
    assert not [path for path in written if mark.encode() in path.read_bytes()]


def test_what_is_not_in_the_mirror_or_on_the_controller_is_bad_input(lab: Lab) -> None:
    fleet = lab.fleet(hub={"mirror": "mirror", "mirror_at": "controller"})
    with pytest.raises(BadInputError) as caught:
        lab.fetch(
            "bad",
            fleet,
            {"id": "Owner/Other"},
            [{"path": "no.jsonl", "at": "controller"}],
            checked=True,
        )
    found = {finding.where for finding in caught.value.findings}
    assert found == {
        str(lab.folder / "mirror/modelscope/models/master/Owner/Other"),
        str(lab.folder / "no.jsonl"),
    }
    assert not (lab.folder / "nodes").exists()
    assert not (lab.folder / "runs").exists()
