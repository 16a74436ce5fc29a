"""What nodes told becomes one truth: who holds what, is it whole, what can be done with it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import layout

from pyswiftops.checkpoints.ledger import Checkpoint, Ledger
from pyswiftops.checkpoints.merging import make_ledger

from . import trees

NODES = ("node-1", "node-2")
LATER = 10**12


class Disks:
    """The training folders of two nodes, each on its own disk."""

    def __init__(self, root: Path) -> None:
        self.roots = {node: root / node / "train" for node in NODES}
        for folder in self.roots.values():
            folder.mkdir(parents=True)

    def __getitem__(self, number: int) -> Path:
        return self.roots[NODES[number - 1]]

    def ledger(self, *, silent: tuple[str, ...] = (), now_ns: int | None = None) -> Ledger:
        now = time.time_ns() + LATER if now_ns is None else now_ns
        told = {
            node: layout.scan([str(folder)], now_ns=now)
            for node, folder in self.roots.items()
            if node not in silent
        }
        roots = {node: {str(folder): "train"} for node, folder in self.roots.items()}
        made = make_ledger("r", NODES, told, roots, dict.fromkeys(silent, "no route"))
        json.dumps(made.to_dict())
        return made

    def only(self, **options: Any) -> Checkpoint:
        (found,) = self.ledger(**options).checkpoints
        return found


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    """Two nodes without checkpoints."""
    return Disks(tmp_path)


@pytest.fixture
def split(disks: Disks) -> Disks:
    """Two nodes, each with its own ranks' shards, as training leaves them."""
    trees.megatron(disks[1] / "checkpoint-10", 10, ranks=[0])
    trees.megatron(disks[2] / "checkpoint-10", 10, ranks=[1], rank0=False)
    return disks


ITER = "checkpoint-10/iter_0000010"


def test_shards_of_two_nodes_make_a_whole(split: Disks) -> None:
    found = split.only()
    assert (found.title, found.iteration, found.kind) == ("checkpoint-10", 10, "mcore")
    assert found.complete
    assert (found.missing, found.short, found.conflicts, found.problems) == ((), (), (), ())
    assert (found.whole_on, found.shared) == ("", ())
    assert [(item.node, item.good) for item in found.holdings] == [("node-1", 5), ("node-2", 1)]
    assert found.required == 6
    assert found.bytes == sum(item.bytes for item in found.holdings)
    assert found.resume.possible
    assert found.resume.sizes == {"tensor": 1, "pipeline": 2}
    assert "any data parallel size" in found.resume.reasons[0]
    assert found.export.possible
    assert "gathered" in found.export.reasons[-1]


def test_the_node_with_all_of_it_is_named(split: Disks) -> None:
    shutil.copy(split[2] / ITER / "__1_0.distcp", split[1] / ITER)
    found = split.only()
    assert found.whole_on == "node-1"
    assert found.export.reasons == ()
    assert found.shared == ()


def test_a_shared_disk_is_found_out_by_its_files(disks: Disks) -> None:
    trees.megatron(disks[1] / "checkpoint-10", 10)
    disks[2].rmdir()
    disks[2].symlink_to(disks[1])
    found = disks.only()
    assert found.shared == (NODES,)
    assert found.holdings[0].bytes == found.holdings[1].bytes == found.bytes


def test_a_copy_is_no_shared_disk(disks: Disks) -> None:
    trees.megatron(disks[1] / "checkpoint-10", 10)
    shutil.copytree(disks[1] / "checkpoint-10", disks[2] / "checkpoint-10")
    assert disks.only().shared == ()
    assert disks.only().conflicts == ()


@pytest.mark.parametrize(
    "name", ["args.json", trees.TRACKER, "iter_0000010/metadata.json", "iter_0000010/__1_0.distcp"]
)
def test_what_no_node_has_is_missing_and_said(split: Disks, name: str) -> None:
    for number in (1, 2):
        (split[number] / "checkpoint-10" / name).unlink(missing_ok=True)
    found = split.only()
    assert (found.complete, found.missing) == (False, (name,))
    assert not found.resume.possible
    assert not found.export.possible
    assert name in found.resume.reasons[0]


def test_without_an_index_nothing_is_proven(split: Disks) -> None:
    (split[1] / ITER / ".metadata").unlink()
    found = split.only()
    assert not found.complete
    assert "no node has an .metadata" in found.resume.reasons[0]


def test_common_pt_decides_nothing(split: Disks) -> None:
    (split[1] / ITER / "common.pt").unlink()
    assert split.only().complete


@pytest.mark.parametrize("size", [0, 1, 4095])
def test_a_cut_off_shard_is_short_unless_another_node_has_it_whole(split: Disks, size: int) -> None:
    os.truncate(split[2] / ITER / "__1_0.distcp", size)
    found = split.only()
    assert (found.complete, found.short) == (False, ("iter_0000010/__1_0.distcp",))
    trees.sparse(split[1] / ITER / "__1_0.distcp", 4096)
    assert split.only().complete
    assert split.only().conflicts == ()
    assert split.only().whole_on == "node-1"


def test_different_indexes_conflict(split: Disks) -> None:
    trees.write(split[2] / ITER / ".metadata", trees.index({"__0_0.distcp": 1}))
    found = split.only()
    assert not found.complete
    assert found.conflicts == (".metadata differs between node-1 and node-2",)
    assert found.conflicts[0] in found.export.reasons


def test_shards_of_two_iterations_conflict(split: Disks) -> None:
    (split[2] / ITER).rename(split[2] / "checkpoint-10" / "iter_0000020")
    found = split.only()
    assert "shards of iterations 10, 20 are mixed" in found.conflicts
    assert not found.resume.possible


def test_one_shard_of_two_sizes_conflicts(split: Disks) -> None:
    trees.sparse(split[1] / ITER / "__1_0.distcp", 5000)
    (text,) = split.only().conflicts
    assert text == "iter_0000010/__1_0.distcp has 5000 bytes on node-1, 4096 bytes on node-2"
    assert not split.only().complete


def test_a_refused_index_makes_it_of_no_use(split: Disks) -> None:
    trees.write(split[1] / ITER / ".metadata", pickle.dumps(os.getcwd))
    found = split.only()
    assert "refused" in " ".join(found.resume.reasons)
    assert not any((found.complete, found.resume.possible, found.export.possible))
    assert found.problems[0].startswith("node-1: ")


def test_a_damaged_index_is_made_good_by_another_node(split: Disks) -> None:
    good = (split[1] / ITER / ".metadata").read_bytes()
    trees.write(split[1] / ITER / ".metadata", good[:10])
    assert not split.only().complete
    shutil.copytree(split[1] / "checkpoint-10", split[2] / "checkpoint-10", dirs_exist_ok=True)
    trees.write(split[2] / ITER / ".metadata", good)
    assert split.only().conflicts  # which of the two is right nobody can tell


def test_a_silent_node_may_hold_what_is_missing(split: Disks) -> None:
    ledger = split.ledger(silent=("node-2",))
    (found,) = ledger.checkpoints
    assert ledger.silent == {"node-2": "no route"}
    assert not found.complete
    assert found.resume.reasons[-1] == "node-2 did not answer, and may hold what is missing"


def test_one_that_is_being_written_is_not_to_be_used(split: Disks) -> None:
    found = split.only(now_ns=time.time_ns())
    assert found.writing
    assert not found.resume.possible
    (split[1] / "checkpoint-10" / trees.TRACKER).unlink()
    soon, late = (split.only(now_ns=time.time_ns() + n * 10**9) for n in (60, 3600))
    assert (soon.writing, late.writing) == (True, False)
    assert late.missing == (trees.TRACKER,)


def test_an_iteration_that_the_tracker_does_not_name_yet_is_being_written(disks: Disks) -> None:
    trees.megatron(disks[1], 10)
    trees.megatron(disks[1], 20)
    trees.write(disks[1] / trees.TRACKER, "10")
    soon = disks.ledger(now_ns=time.time_ns() + 60 * 10**9).checkpoints
    assert [(item.iteration, item.writing) for item in soon] == [(10, False), (20, True)]


def test_weights_alone_are_exported_and_not_resumed(disks: Disks) -> None:
    trees.megatron(disks[1] / "checkpoint-10", 10, keys=trees.FULL_KEYS[:2])
    found = disks.only()
    assert found.complete
    assert found.export.possible
    assert not found.resume.possible
    assert "--finetune true" in found.resume.reasons[0]


def test_a_fully_reshardable_optimizer_is_resumed_at_any_sizes(disks: Disks) -> None:
    keys = ("decoder.weight", "optimizer.state.exp_avg.decoder.weight")
    trees.megatron(disks[1] / "checkpoint-10", 10, keys=keys)
    found = disks.only()
    assert found.resume.sizes == {}
    assert "any parallel sizes" in found.resume.reasons[0]
    assert "--no_load_rng" in found.resume.reasons[1]


def test_the_index_tells_that_shards_are_loras(disks: Disks) -> None:
    trees.megatron(disks[1] / "checkpoint-10", 10, lora=True, ranks=[0])
    trees.megatron(disks[2] / "checkpoint-10", 10, lora=True, ranks=[1], rank0=False)
    found = disks.only()
    assert (found.kind, found.complete) == ("mcore_lora", True)
    assert "base model" in found.export.reasons[0]


def test_a_model_on_the_last_node_and_arguments_on_the_first_are_one(disks: Disks) -> None:
    """As ms-swift 3.10 to 3.12 leave it."""
    trees.write(disks[1] / "checkpoint-10" / "args.json", trees.ARGS)
    trees.transformers(disks[2] / "checkpoint-10")
    found = disks.only()
    assert (found.kind, found.complete, found.whole_on) == ("hf", True, "node-2")
    assert found.export.reasons == ("it is in Hugging Face's format already",)
    assert not found.resume.possible


def test_a_whole_hf_form_can_be_exported_though_shards_are_missing(split: Disks) -> None:
    trees.transformers(split[1] / "checkpoint-10")
    (split[2] / ITER / "__1_0.distcp").unlink()
    found = split.only()
    assert (found.forms, found.complete, found.hf_complete) == (("mcore", "hf"), False, True)
    assert found.export.possible
    trees.safetensors(split[1] / "checkpoint-10" / "model.safetensors", cut=1)
    assert not split.only().export.possible


def test_shards_of_a_model_that_its_index_names_are_needed(disks: Disks) -> None:
    folder = trees.transformers(disks[1] / "checkpoint-10")
    shards = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    trees.write(folder / "model.safetensors.index.json", {"weight_map": shards})
    (folder / "model.safetensors").rename(folder / "model-1-of-2.safetensors")
    found = disks.only()
    assert (found.complete, found.missing) == (False, ("model-2-of-2.safetensors",))


def test_plain_swift_is_resumed_by_as_many_processes(disks: Disks) -> None:
    trees.plain_swift(disks[1] / "checkpoint-10")
    found = disks.only()
    assert (found.kind, found.has_optimizer, found.resume.possible) == ("hf_lora", True, True)
    (disks[1] / "checkpoint-10" / "optimizer.pt").unlink()
    assert not disks.only().resume.possible


def test_a_folder_that_tells_nothing_is_of_no_use(disks: Disks) -> None:
    trees.write(disks[1] / "checkpoint-10" / "notes.txt", "none")
    found = disks.only()
    assert (found.kind, found.complete) == ("", False)
    assert "no weights" in found.export.reasons[0]


def test_checkpoints_come_in_the_order_of_their_iterations(disks: Disks) -> None:
    for number in (100, 20, 3):
        trees.megatron(disks[1] / f"checkpoint-{number}", number)
    assert [item.iteration for item in disks.ledger().checkpoints] == [3, 20, 100]


def test_two_folders_of_one_name_on_one_node_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trees.megatron(tmp_path / name / "checkpoint-10", 10)
    folders = [str(tmp_path / name) for name in ("a", "b")]
    told = {"node-1": layout.scan(folders)}
    ledger = make_ledger("old", ["node-1"], told, {"node-1": dict.fromkeys(folders, "adopted")})
    assert len(ledger.checkpoints) == 1
    assert str(tmp_path / "b") in ledger.problems["node-1"][0]
