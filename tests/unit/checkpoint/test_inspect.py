from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist, torch_dist_index

ITER = "iter_0000010"
SHARDS = [f"__{rank}_{number}.distcp" for rank in (0, 1) for number in range(4)]


def test_a_whole_checkpoint_is_complete(checkpoint: Path) -> None:
    found = torch_dist.inspect(checkpoint)
    sizes = {name: (checkpoint / ITER / name).stat().st_size for name in SHARDS}
    assert found == {
        "checkpoint": str(checkpoint),
        "iteration": 10,
        "iter_dir": str(checkpoint / ITER),
        "needed": sizes,
        "shards": sizes,
        "missing": [],
        "short": [],
        "extra": [],
        "ranks": [0, 1],
        "has_args": True,
        "has_tracker": True,
        "has_metadata": True,
        "has_metadata_json": True,
        "complete": True,
        "problems": [],
    }


def test_the_iter_folder_stands_for_its_checkpoint(checkpoint: Path) -> None:
    assert torch_dist.inspect(checkpoint / ITER) == torch_dist.inspect(checkpoint)
    assert torch_dist.inspect_any(checkpoint / ITER) == torch_dist.inspect(checkpoint)


def test_a_missing_shard_is_named_with_its_rank(checkpoint: Path) -> None:
    (checkpoint / ITER / "__1_0.distcp").unlink()
    found = torch_dist.inspect(checkpoint)
    assert (found["complete"], found["missing"]) == (False, ["__1_0.distcp"])
    assert found["problems"] == ["__1_0.distcp is missing (rank 1 writes it)"]


@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_short_shard_is_named_with_both_sizes(checkpoint: Path, keep: int) -> None:
    shard = checkpoint / ITER / "__1_0.distcp"
    data = shard.read_bytes()
    shard.write_bytes(data[:keep])
    found = torch_dist.inspect(checkpoint)
    size = len(data[:keep])
    assert found["short"] == [{"name": shard.name, "needed": len(data), "found": size}]
    assert (found["complete"], found["missing"]) == (False, [])


@pytest.mark.parametrize("pattern", [".{}.part", "{}.part"])
def test_a_half_copied_shard_is_short_and_not_extra(checkpoint: Path, pattern: str) -> None:
    """Even with all its bytes: its name says that they are not proven."""
    shard = checkpoint / ITER / "__0_1.distcp"
    size = shard.stat().st_size
    shard.rename(shard.with_name(pattern.format(shard.name)))
    found = torch_dist.inspect(checkpoint)
    assert found["short"] == [{"name": shard.name, "needed": size, "found": size}]
    assert (found["complete"], found["missing"], found["extra"]) == (False, [], [])
    assert "in a half copied file" in found["problems"][0]


@pytest.mark.parametrize(
    ("file", "flag"),
    [
        ("args.json", "has_args"),
        ("latest_checkpointed_iteration.txt", "has_tracker"),
        (f"{ITER}/metadata.json", "has_metadata_json"),
        (f"{ITER}/.metadata", "has_metadata"),
    ],
)
def test_what_rank_0_writes_is_needed(checkpoint: Path, file: str, flag: str) -> None:
    (checkpoint / file).unlink()
    found = torch_dist.inspect(checkpoint)
    assert (found["complete"], found[flag]) == (False, False)
    assert len(found["problems"]) == 1
    assert Path(file).name in found["problems"][0]
    assert found["ranks"] == [0, 1]


def test_common_pt_decides_nothing(checkpoint: Path) -> None:
    (checkpoint / ITER / "common.pt").write_bytes(b"x")
    assert torch_dist.inspect(checkpoint)["complete"] is True
    assert torch_dist.inspect(checkpoint)["extra"] == []
    for path in (checkpoint / ITER).iterdir():
        path.unlink() if path.name != "common.pt" else None
    found = torch_dist.inspect(checkpoint)  # as with save_safetensors and no_save_optim
    assert (found["complete"], found["shards"]) == (False, {})


def test_a_node_of_other_ranks_says_what_it_holds(checkpoint: Path) -> None:
    for name in ("args.json", "latest_checkpointed_iteration.txt"):
        (checkpoint / name).unlink()
    for path in (checkpoint / ITER).iterdir():
        path.unlink() if not path.name.startswith("__1_") else None
    found = torch_dist.inspect_any(checkpoint.parent)
    assert (found["checkpoint"], found["iteration"]) == (str(checkpoint), 10)
    assert (found["ranks"], list(found["shards"])) == ([1], SHARDS[4:])
    assert (found["needed"], found["missing"], found["complete"]) == ({}, [], False)
    assert len(found["problems"]) == 4


def test_what_no_checkpoint_needs_is_extra(checkpoint: Path) -> None:
    for name in ("__2_0.distcp", "core.1234", ".__0_0.distcp.part"):
        (checkpoint / ITER / name).write_bytes(b"x")
    found = torch_dist.inspect(checkpoint)
    assert found["extra"] == [".__0_0.distcp.part", "__2_0.distcp", "core.1234"]
    assert found["complete"] is True


def test_the_tracker_decides_which_iteration(checkpoint: Path) -> None:
    shutil.copytree(checkpoint / ITER, checkpoint / "iter_0000020")
    assert torch_dist.inspect(checkpoint)["iteration"] == 10
    (checkpoint / "latest_checkpointed_iteration.txt").write_text("30\n")
    found = torch_dist.inspect(checkpoint)
    assert (found["iteration"], found["complete"]) == (30, False)
    assert "names iteration 30" in found["problems"][0]
    (checkpoint / "latest_checkpointed_iteration.txt").write_text("../x")
    found = torch_dist.inspect(checkpoint)
    assert (found["iteration"], found["complete"]) == (20, False)
    assert "holds '../x'" in found["problems"][0]


def test_a_release_checkpoint_has_no_number(checkpoint: Path) -> None:
    (checkpoint / ITER).rename(checkpoint / "release")
    (checkpoint / "latest_checkpointed_iteration.txt").write_text("release")
    found = torch_dist.inspect(checkpoint)
    assert (found["iteration"], found["complete"]) == (None, True)
    assert torch_dist.inspect_any(checkpoint / "release")["complete"] is True


def test_the_latest_checkpoint_of_a_training_is_taken_by_number(checkpoint: Path) -> None:
    output = checkpoint.parent
    shutil.copytree(checkpoint, output / "checkpoint-9")
    shutil.copytree(checkpoint, output / "checkpoint-11-merged")
    (output / "checkpoint-100" / ITER).mkdir(parents=True)  # made, nothing saved yet
    (output / "last-checkpoint").symlink_to("checkpoint-9")
    (output / "checkpoint-500").symlink_to("checkpoint-9")
    assert torch_dist.locate(output) == checkpoint
    (output / "checkpoint-100" / ITER / "__1_0.distcp").write_bytes(b"")
    assert torch_dist.locate(output) == output / "checkpoint-100"


def test_a_converted_model_is_found_at_its_own_folder(checkpoint: Path, tmp_path: Path) -> None:
    """Conversion to mcore writes the tracker beside iter_0000001, without a checkpoint-N."""
    model = tmp_path / "mcore"
    checkpoint.rename(model)
    (model / ITER).rename(model / "iter_0000001")
    (model / "latest_checkpointed_iteration.txt").write_text("1")
    assert torch_dist.inspect_any(model)["complete"] is True


@pytest.mark.parametrize("make", [True, False])
def test_where_no_checkpoint_is_it_says_so(tmp_path: Path, make: bool) -> None:
    path = tmp_path / "output"
    path.mkdir() if make else None
    found = torch_dist.inspect_any(path)
    assert (found["checkpoint"], found["iter_dir"], found["complete"]) == (None, None, False)
    assert str(path) in found["problems"][0]
    assert str(path) in torch_dist.explain(found)


def test_a_broken_index_is_a_problem_and_a_hostile_one_an_error(checkpoint: Path) -> None:
    path = checkpoint / ITER / ".metadata"
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    found = torch_dist.inspect(checkpoint)
    assert found["complete"] is False
    assert "expected the index of a torch_dist checkpoint" in found["problems"][0]
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(torch_dist_index.RefusedGlobalError, match=r"builtins\.print"):
        torch_dist.inspect(checkpoint)


def test_the_message_names_files_node_place_and_remedy(checkpoint: Path) -> None:
    (checkpoint / ITER / "__1_0.distcp").unlink()
    found = torch_dist.inspect(checkpoint)
    place = checkpoint / ITER
    assert torch_dist.explain(found, "export", ["node-1", "node-2"], 1) == (
        "checkpoint is not complete and cannot be exported: 1 of 8 shard files is missing: "
        f"__1_0.distcp (node-2's ranks write it). Expected in {place}: {', '.join(SHARDS)}. "
        f"Found: {', '.join(s for s in SHARDS if s != '__1_0.distcp')}. Remedy: run the gather "
        "stage again: swiftops run --only gather --again, or ansible-playbook "
        "pyswiftops.fleet.stages.gather"
    )
    assert "__1_0.distcp (rank 1 writes it)" in torch_dist.explain(found, "resume")
    (checkpoint / ITER / "__0_0.distcp").write_bytes(b"abc")
    (checkpoint / "args.json").unlink()
    message = torch_dist.explain(torch_dist.inspect(checkpoint))
    assert "1 of 8 shard files is short: __0_0.distcp (3 of " in message
    assert message.count("__1_0.distcp (") == 1
    assert "args.json is missing" in message


def test_many_missing_shards_do_not_flood_the_message() -> None:
    found = torch_dist.inspect("/nowhere")
    names = [f"__{rank}_0.distcp" for rank in range(512)]
    message = torch_dist.explain({**found, "needed": dict.fromkeys(names, 1), "missing": names})
    assert "512 of 512 shard files are missing" in message
    assert "and 504 more" in message
    assert len(message) < 2000


def test_the_module_answers_and_fails_where_asked(
    checkpoint: Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    whole = run_module(path=str(checkpoint.parent), require_complete=True, needed_for="resume")
    assert (whole["changed"], whole["complete"]) == (False, True)
    assert whole["checkpoint"] == str(checkpoint)
    (checkpoint / ITER / "__1_0.distcp").unlink()
    seen = run_module(path=str(checkpoint))
    assert ("failed" in seen, seen["missing"]) == (False, ["__1_0.distcp"])
    failed = run_module(
        path=str(checkpoint),
        require_complete=True,
        needed_for="export",
        nodes=["node-1", "node-2"],
        ranks_per_node=1,
    )
    assert failed["failed"] is True
    assert "__1_0.distcp (node-2's ranks write it)" in failed["msg"]
    assert failed["missing"] == ["__1_0.distcp"]
    (checkpoint / ITER / ".metadata").write_bytes(pickle.dumps(print))
    refused = run_module(path=str(checkpoint))
    assert refused["failed"] is True
    assert "builtins.print" in refused["msg"]
