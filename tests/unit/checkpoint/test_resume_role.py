"""The role ``resume`` on two local nodes: a checkpoint in parts becomes whole on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist, torch_dist_index

from pyswiftops.content import collections_path

pytestmark = pytest.mark.slow

PLAY = [
    {
        "hosts": "swiftops_nodes",
        "gather_facts": False,
        "any_errors_fatal": True,
        "vars": {"swiftops_run_id": "second"},
        "tasks": [
            {
                "ansible.builtin.include_role": {"name": "pyswiftops.fleet.resume"},
                "vars": {"resume_from": "{{ given }}", "resume_needed": {"tuner_type": "lora"}},
            }
        ],
    }
]
SHARDS = "iter_0000010"


class Place:
    """Two nodes; each holds the shards of its own rank, and the first what rank 0 adds."""

    def __init__(self, folder: Path, index: Path) -> None:
        self.folder = folder
        needed = torch_dist_index.needed_files(torch_dist_index.load_index(index), index)
        for node in (1, 2):
            held = self.train(node) / "checkpoint-10" / SHARDS
            held.mkdir(parents=True)
            for name, size in needed.items():
                if torch_dist.rank_of(name) == node - 1:
                    (held / name).write_bytes(bytes([node]) * size)
        first = self.train(1) / "checkpoint-10"
        (first / SHARDS / ".metadata").write_bytes(index.read_bytes())
        (first / SHARDS / "metadata.json").write_text("{}", encoding="utf-8")
        (first / "args.json").write_text('{"tuner_type": "lora"}', encoding="utf-8")
        (first / "latest_checkpointed_iteration.txt").write_text("10", encoding="utf-8")
        fleet: dict[str, Any] = {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": str(folder),
            "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        }
        (folder / "fleet.yml").write_text(yaml.safe_dump(fleet, sort_keys=False), encoding="utf-8")
        (folder / "play.yml").write_text(yaml.safe_dump(PLAY), encoding="utf-8")

    def run(self, node: int, name: str) -> Path:
        return self.folder / f"node-{node}" / "runs" / name

    def train(self, node: int) -> Path:
        return self.run(node, "first") / "train"

    def play(self, given: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return subprocess.run(
            [
                *(program, "-i", str(self.folder / "fleet.yml")),
                *("-e", json.dumps({"given": given}), str(self.folder / "play.yml")),
            ],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path())},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture
def place(tmp_path: Path, megatron_index: Path) -> Place:
    return Place(tmp_path, megatron_index)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_parts_on_two_nodes_become_whole_on_both_and_stay_so(place: Place) -> None:
    before = [files(place.train(node)) for node in (1, 2)]
    done = place.play("first")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [files(place.train(node)) for node in (1, 2)] == before
    whole = {
        name.removeprefix("checkpoint-10/"): data for part in before for name, data in part.items()
    }
    for node in (1, 2):
        resume = place.run(node, "second") / "resume"
        assert files(resume) == whole
        assert torch_dist.inspect(resume)["complete"]
        own = f"{SHARDS}/__{node - 1}_0.distcp"
        assert (resume / own).samefile(place.train(node) / "checkpoint-10" / own)
    again = place.play("first")
    assert again.returncode == 0, again.stdout
    for node in ("node-1", "node-2"):
        (recap,) = [line for line in again.stdout.splitlines() if line.startswith(f"{node} ")]
        assert "changed=0" in recap


def test_a_lost_shard_is_named_and_no_other_node_is_given_half_a_checkpoint(place: Place) -> None:
    lost = place.train(2) / "checkpoint-10" / SHARDS / "__1_0.distcp"
    lost.unlink()
    done = place.play("first/checkpoint-10")
    assert done.returncode != 0
    assert "1 of " in done.stdout
    assert "__1_0.distcp" in done.stdout
    assert not (place.run(2, "second") / "resume" / "args.json").exists()


def test_a_path_that_only_the_first_node_has(place: Place) -> None:
    held = place.folder / "elsewhere" / "checkpoint-10"
    for node in (2, 1):
        for name, data in files(place.train(node) / "checkpoint-10").items():
            (held / name).parent.mkdir(parents=True, exist_ok=True)
            (held / name).write_bytes(data)
    done = place.play(str(held))
    assert done.returncode == 0, done.stdout + done.stderr
    assert files(place.run(2, "second") / "resume") == files(held)
