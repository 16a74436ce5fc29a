"""Where training goes on, asked of real nodes: two folders of this machine, a third as a spare."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist, torch_dist_index

from pyswiftops.content import collections_path
from pyswiftops.continuing import Continuing
from pyswiftops.errors import StageFailedError
from pyswiftops.events import EventKind
from pyswiftops.nodes import Nodes
from pyswiftops.paths import RunFolder
from pyswiftops.planner import replan
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.runner import ModuleResult, PlaybookResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

pytestmark = pytest.mark.slow
RunModule = Callable[..., dict[str, Any]]


class Place:
    """A run whose training has failed after it saved twice; node-2 lost a shard of the second."""

    def __init__(self, folder: Path, index: Path, run_module: RunModule) -> None:
        self.folder = folder
        document = {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": str(folder),
            "nodes": [{"name": f"node-{n}", "spare": n == 3} for n in (1, 2, 3)],
        }
        run = {
            "name": "r",
            "model": {"path": "/m"},
            "data": {"train": ["/d"]},
            "training": {"iterations": 30},
            "parallel": {"pipeline": 2},
        }
        fleet = Fleet.from_document(document, folder / "fleet.yml")
        self.plan = make_plan(fleet, RunSpec.from_document({"run": run}, folder / "run.yml"), "r")
        self.store = RunStore(RunFolder(folder / "runs", "r"))
        self.store.create(self.plan)
        for step in (10, 20):
            self._save(step, index)
        for node in (1, 2):
            job = {"directory": str(self.node(node) / "jobs" / "train"), "run_id": "r"}
            named = {"stage": "train", "node": f"node-{node}"}
            run_module("job", argv=["false"], **job, **named)
            assert run_module("job", state="finished", wait=20, **job)["state"] == "failed"
        self.part(2, 20).unlink()
        self.told: list[tuple[EventKind, Mapping[str, Any]]] = []
        self.continuing = Continuing(
            self.store, lambda kind, _, data: self.told.append((kind, data))
        )

    def node(self, number: int) -> Path:
        return self.folder / f"node-{number}" / "runs" / "r"

    def shards(self, number: int, step: int) -> Path:
        return self.node(number) / "train" / f"checkpoint-{step}" / f"iter_{step:07d}"

    def part(self, number: int, step: int) -> Path:
        """A node's own shard."""
        return self.shards(number, step) / f"__{number - 1}_0.distcp"

    def _save(self, step: int, index: Path) -> None:
        needed = torch_dist_index.needed_files(torch_dist_index.load_index(index), index)
        for number in (1, 2):
            self.shards(number, step).mkdir(parents=True)
            for name, size in needed.items():
                if torch_dist.rank_of(name) == number - 1:
                    (self.shards(number, step) / name).write_bytes(bytes([step]) * size)
        first = self.shards(1, step)
        (first / ".metadata").write_bytes(index.read_bytes())
        (first / "metadata.json").write_text("{}", encoding="utf-8")
        (first.parent / "args.json").write_text('{"tuner_type": "lora"}', encoding="utf-8")
        (first.parent / torch_dist.TRACKER).write_text(str(step), encoding="utf-8")

    def scatter(self, plan: Plan, **variables: Any) -> None:
        """The role that puts the checkpoint on every node, as the stage train runs it."""
        assert plan.spec.resume is not None
        given = {"resume_from": plan.spec.resume.source, **variables}
        task = {"ansible.builtin.include_role": {"name": "pyswiftops.fleet.resume"}, "vars": given}
        play = {
            "hosts": "swiftops_nodes",
            "gather_facts": False,
            "any_errors_fatal": True,
            "vars": {"swiftops_run_id": "r"},
            "tasks": [task],
        }
        file = self.folder / "play.yml"
        file.write_text(yaml.safe_dump([play]), encoding="utf-8")
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        done = subprocess.run(
            [program, "-i", str(self.store.folder.fleet), str(file)],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path())},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def held(self, number: int) -> set[str]:
        resume = self.node(number) / "resume"
        return {str(path.relative_to(resume)) for path in resume.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path, run_module: RunModule) -> Place:
    packed = Path(__file__).parents[1] / "checkpoint" / "data" / "lora_pp2.metadata.gz"
    index = tmp_path / ".metadata"
    index.write_bytes(gzip.decompress(packed.read_bytes()))
    return Place(tmp_path, index, run_module)


def test_it_goes_on_from_the_last_whole_one_and_says_which_was_passed_over(place: Place) -> None:
    start = place.continuing.start(place.plan, begun=True)
    assert start.plan.spec.resume is not None
    assert start.plan.spec.resume.source == "r/checkpoint-10"
    assert start.variables == {"swiftops_resume_holder": "node-1"}
    ((kind, data),) = place.told
    assert (kind, data["iteration"]) == (EventKind.CONTINUED, 10)
    assert "checkpoint-20 cannot be gone on from: 1 file" in data["detail"]
    assert place.store.plan().to_dict() == start.plan.to_dict()
    assert place.store.first_plan().to_dict() == place.plan.to_dict()
    assert place.store.create(place.plan).to_dict() == start.plan.to_dict()


def test_a_training_that_was_not_begun_asks_nobody(place: Place) -> None:
    start = place.continuing.start(place.plan, begun=False)
    assert (start.plan, dict(start.variables), place.told) == (place.plan, {}, [])


def test_asked_for_once_more_as_a_whole_it_begins_as_the_run_file_says(place: Place) -> None:
    plan = place.continuing.start(place.plan, begun=True).plan
    again = place.continuing.start(plan, begun=False)
    assert again.plan.spec.resume is None
    assert again.variables == {"swiftops_resume_anew": True}
    assert place.store.load()["digest"] == place.plan.digest


def test_without_a_whole_one_it_begins_again_and_says_so(place: Place) -> None:
    place.part(2, 10).unlink()
    start = place.continuing.start(place.plan, begun=True)
    assert start.plan.spec.resume is None
    ((_, data),) = place.told
    assert data["checkpoint"] == ""
    assert "begins again" in data["detail"]


def test_what_it_went_on_from_before_lies_on_the_new_node_too(place: Place) -> None:
    """node-1, which alone had index and tracker, is lost; node-2 got them at the first resume."""
    plan = place.continuing.start(place.plan, begun=True).plan
    place.scatter(plan, resume_holder="node-1")
    whole = place.held(1)
    assert place.held(2) == whole
    fleet = replan.replaced(plan.fleet, {"node-1": "node-3"})
    for stage in ("data", "convert", "compare"):
        place.store.update(stage, state=StageState.SUCCEEDED.value)
    plan = place.continuing.replace(plan, {"node-1": "node-3"}, fleet)
    assert place.told[-1][0] is EventKind.REPLACED
    kept = json.loads(Path(place.told[-1][1]["kept"]).read_text(encoding="utf-8"))
    assert [node["name"] for node in kept["fleet"]["nodes"]] == ["node-1", "node-2", "node-3"]
    states = {name: place.store.stage_state(name) for name in ("data", "convert", "compare")}
    assert states == {
        "data": StageState.PENDING,
        "convert": StageState.PENDING,
        "compare": StageState.SUCCEEDED,
    }
    start = place.continuing.start(plan, begun=True)
    assert start.variables == {"swiftops_resume_holder": "node-2"}
    place.scatter(start.plan, resume_holder="node-2")
    assert place.held(3) == whole
    assert torch_dist.inspect(place.node(3) / "resume")["complete"]


def test_a_later_checkpoint_takes_the_place_of_the_one_before(place: Place) -> None:
    plan = place.continuing.start(place.plan, begun=True).plan
    place.scatter(plan, resume_holder="node-1")
    place.part(2, 20).write_bytes(b"\x14" * place.part(2, 10).stat().st_size)
    start = place.continuing.start(plan, begun=True)
    assert start.plan.spec.resume is not None
    assert start.plan.spec.resume.source == "r/checkpoint-20"
    place.scatter(start.plan, resume_holder="node-1")
    for number in (1, 2):
        assert not [name for name in place.held(number) if "iter_0000010" in name]
        assert torch_dist.inspect(place.node(number) / "resume")["complete"]
        assert (place.node(number) / "train" / "checkpoint-10").is_dir()


def test_a_run_that_had_trained_trains_again_if_its_last_checkpoint_is_lost(place: Place) -> None:
    place.store.update("train", state=StageState.SUCCEEDED.value)
    fleet = replan.replaced(place.plan.fleet, {"node-2": "node-3"})
    place.continuing.replace(place.plan, {"node-2": "node-3"}, fleet)
    assert place.store.stage_state("train") is StageState.STOPPED


def test_a_new_node_that_does_not_answer_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local node always answers: the one call that asks it is replaced."""
    monkeypatch.setattr("pyswiftops.continuing.answers", lambda *_: "no route to host")
    fleet = replan.replaced(place.plan.fleet, {"node-2": "node-3"})
    with pytest.raises(StageFailedError, match="node-3: it does not answer: no route"):
        place.continuing.replace(place.plan, {"node-2": "node-3"}, fleet)
    assert place.store.plan().to_dict() == place.plan.to_dict()
    assert place.told == []


def test_a_silent_node_is_named_with_the_way_to_replace_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ModuleResult("job", "State", "node-2", {"msg": "timed out"}, failed=True)
    answer = PlaybookResult(ok=False, results=[said])
    monkeypatch.setattr(Nodes, "play", lambda *_args, **_more: answer)
    with pytest.raises(StageFailedError, match="--replace node-2=SPARE"):
        place.continuing.start(place.plan, begun=True)
