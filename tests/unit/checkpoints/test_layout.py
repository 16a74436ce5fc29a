"""A node finds every checkpoint, whatever release line wrote it and whatever is wrong with it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import (
    contents,
    in_use,
    layout,
)

from . import trees

LATER = time.time_ns() + 10**12
"""A moment at which every file of these tests has settled."""


def scan(*folders: Path, now_ns: int = LATER) -> dict[str, Any]:
    found: dict[str, Any] = layout.scan([str(folder) for folder in folders], now_ns=now_ns)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # it must travel as JSON
    return found


def checkpoints(*folders: Path) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in scan(*folders)["checkpoints"]}


def only(folder: Path) -> dict[str, Any]:
    (found,) = scan(folder)["checkpoints"]
    return dict(found)


# Layouts.


def test_of_3_6_to_3_11_each_iteration_is_a_checkpoint(tmp_path: Path) -> None:
    version = tmp_path / "v0-20250101-000000"
    trees.megatron(version, 100)
    trees.megatron(version, 200)
    found = checkpoints(tmp_path)
    assert list(found) == [f"v0-20250101-000000/iter_0000{n}" for n in (100, 200)]
    first = found["v0-20250101-000000/iter_0000100"]
    assert (first["iteration"], first["kind"], first["tracker"]) == (100, "mcore", "200")
    assert first["base"] == str(version)
    assert first["path"] == str(version / "iter_0000100")
    assert {"args.json", trees.TRACKER, "iter_0000100/.metadata"} <= set(first["files"])
    assert not any("200" in name for name in first["files"])
    assert first["needed"] == {f"iter_0000100/__{rank}_0.distcp": 4096 for rank in (0, 1)}
    assert (first["has_optimizer"], first["has_rng"], first["reshardable"]) == (True, True, False)
    assert first["parallel"] == {"tensor": 1, "pipeline": 2, "world": 2}
    assert first["problems"] == []


def test_of_3_12_on_a_numbered_folder_is_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-10"
    trees.megatron(folder, 10, lora=True)
    trees.transformers(folder, adapter=True)
    trees.write(tmp_path / "args.json", {})
    (tmp_path / "last-checkpoint").symlink_to("checkpoint-10")
    found = only(tmp_path)
    assert (found["name"], found["kind"], found["iteration"]) == ("checkpoint-10", "mcore_lora", 10)
    assert found["forms"] == ["mcore_lora", "hf_lora"]
    assert found["links"] == ["last-checkpoint"]
    prefix = "iter_0000010/"
    assert found["needed"] == {prefix + name: size for name, size in trees.LORA_SHARDS.items()}
    assert found["has_optimizer"]
    assert found["has_rng"]


def test_a_node_of_other_ranks_tells_its_shards_and_what_it_cannot_know(tmp_path: Path) -> None:
    trees.megatron(tmp_path / "checkpoint-10", 10, ranks=[1], rank0=False)
    found = only(tmp_path)
    assert (found["kind"], found["tracker"], found["needed"]) == ("mcore", None, {})
    assert list(found["files"]) == ["iter_0000010/__1_0.distcp"]
    unknown = ("has_optimizer", "has_rng", "index_digest", "reshardable")
    assert [found[name] for name in unknown] == [None] * 4


def test_of_3_10_with_safetensors_there_is_a_model_and_no_optimizer(tmp_path: Path) -> None:
    trees.transformers(tmp_path / "checkpoint-5")
    trees.write(tmp_path / "checkpoint-5" / "args.json", {"train_type": "full"})
    found = only(tmp_path)
    assert (found["kind"], found["iteration"], found["has_optimizer"]) == ("hf", 5, None)
    assert found["needed"]["model.safetensors"] > 16


def test_merged_weights_beside_a_checkpoint_are_a_model_of_their_own(tmp_path: Path) -> None:
    """``iter_`` holds only common.pt there."""
    trees.megatron(tmp_path / "checkpoint-10", 10, lora=True)
    merged = trees.transformers(tmp_path / "checkpoint-10-merged")
    trees.write(merged / "iter_0000010" / "common.pt", b"PK")
    trees.write(merged / trees.TRACKER, "10")
    found = checkpoints(tmp_path)
    assert list(found) == ["checkpoint-10", "checkpoint-10-merged"]
    assert found["checkpoint-10-merged"]["kind"] == "hf"
    assert found["checkpoint-10-merged"]["merged"]
    assert not found["checkpoint-10"]["merged"]


def test_a_conversion_has_no_optimizer(tmp_path: Path) -> None:
    trees.megatron(tmp_path / "mcore", 1, keys=trees.FULL_KEYS[:2], common=False)
    found = only(tmp_path / "mcore")
    assert (found["name"], found["iteration"]) == ("iter_0000001", 1)
    assert (found["has_optimizer"], found["has_rng"]) == (False, False)


def test_a_release_folder_is_one_only_where_it_holds_weights(tmp_path: Path) -> None:
    trees.write(tmp_path / "release" / "notes.txt", "none")
    assert scan(tmp_path)["checkpoints"] == []
    trees.megatron(tmp_path, 1).rename(tmp_path / "weights")
    shutil.rmtree(tmp_path / "release")
    (tmp_path / "weights").rename(tmp_path / "release")
    trees.write(tmp_path / trees.TRACKER, "release")
    found = only(tmp_path)
    assert (found["name"], found["iteration"], found["kind"]) == ("release", None, "mcore")
    assert found["needed"]
    assert found["problems"] == []


def test_line_2_6_has_no_index_and_says_so(tmp_path: Path) -> None:
    trees.write(tmp_path / "iter_0000010" / "mp_rank_00" / "model_optim_rng.pt", b"PK")
    found = only(tmp_path)
    assert (found["kind"], found["needed"]) == ("mcore", {})
    assert "2.6" in found["problems"][0]


@pytest.mark.parametrize(("adapter", "kind"), [(True, "hf_lora"), (False, "hf")])
def test_a_checkpoint_of_plain_swift_is_known_by_its_files(
    tmp_path: Path, adapter: bool, kind: str
) -> None:
    trees.plain_swift(tmp_path / "v1-20260101-000000" / "checkpoint-10", adapter=adapter)
    found = only(tmp_path)
    assert (found["kind"], found["has_optimizer"], found["has_rng"]) == (kind, True, True)
    shutil.rmtree(tmp_path / "v1-20260101-000000")
    deepspeed = trees.transformers(tmp_path / "checkpoint-20")
    trees.write(deepspeed / "trainer_state.json", {})
    assert only(tmp_path)["has_optimizer"] is False
    trees.write(deepspeed / "global_step20" / "zero_pp_rank_0_mp_rank_00_optim_states.pt", b"PK")
    assert only(tmp_path)["has_optimizer"] is True


def test_an_output_folder_with_a_model_does_not_own_the_checkpoints_in_it(tmp_path: Path) -> None:
    trees.transformers(tmp_path)
    trees.plain_swift(tmp_path / "checkpoint-10")
    trees.write(tmp_path / "runs" / "events", b"tensorboard")
    found = checkpoints(tmp_path)
    assert list(found) == [".", "checkpoint-10"]
    assert set(found["."]["files"]) == {"config.json", "model.safetensors", "runs/events"}


def test_the_name_is_the_same_whichever_folder_is_given(tmp_path: Path) -> None:
    version = tmp_path / "out" / "v0-20250101-000000"
    trees.megatron(version / "checkpoint-10", 10)
    given = (tmp_path / "out", version, version / "checkpoint-10")
    assert {only(folder)["name"] for folder in given} == {"v0-20250101-000000/checkpoint-10"}
    plain = tmp_path / "plain" / "checkpoint-7"
    trees.megatron(plain, 7)
    assert {only(folder)["name"] for folder in (plain, plain.parent)} == {"checkpoint-7"}
    assert only(plain / "iter_0000007")["name"] == "iter_0000007"


# What is wrong.


def test_a_hostile_index_is_refused_and_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    folder = trees.megatron(tmp_path / "checkpoint-10", 10)
    (folder / ".metadata").write_bytes(pickle.dumps(Hostile()))
    trees.megatron(tmp_path / "checkpoint-20", 20)
    found = checkpoints(tmp_path)
    assert found["checkpoint-10"]["refused"]
    assert "posix.system" in found["checkpoint-10"]["problems"][0]
    assert not (tmp_path / "ran").exists()
    assert found["checkpoint-20"]["problems"] == []


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_cut_off_index_is_told_and_names_the_file(tmp_path: Path, keep: int) -> None:
    folder = trees.megatron(tmp_path / "checkpoint-10", 10)
    data = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(data[:keep])
    found = only(tmp_path)
    assert found["damaged"] == ["iter_0000010/.metadata"]
    assert found["needed"] == {}
    assert not found["refused"]
    assert ".metadata" in found["problems"][0]


@pytest.mark.parametrize("cut", [1, 16, 40])
def test_a_cut_off_safetensors_file_is_shorter_than_its_header_says(
    tmp_path: Path, cut: int
) -> None:
    trees.transformers(tmp_path)
    trees.safetensors(tmp_path / "model.safetensors", cut=cut)
    found = only(tmp_path)
    size = found["files"]["model.safetensors"]["size"]
    assert size < found["needed"]["model.safetensors"] or found["damaged"] == ["model.safetensors"]


def test_shards_of_two_iterations_are_told(tmp_path: Path) -> None:
    trees.megatron(tmp_path / "checkpoint-10", 10)
    trees.megatron(tmp_path / "checkpoint-10", 20, rank0=False)
    assert only(tmp_path)["iterations"] == [10, 20]
    trees.write(tmp_path / "checkpoint-10" / trees.TRACKER, "20")
    assert "'20'" in only(tmp_path)["problems"][0]


def test_strange_names_links_and_devices_do_no_harm(tmp_path: Path) -> None:
    folder = trees.megatron(tmp_path / "a b'; $(touch x)\n" / "checkpoint-10", 10)
    (folder / "loop").symlink_to(tmp_path)
    (folder / "nowhere").symlink_to(tmp_path / "none")
    os.mkfifo(folder / "pipe")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.distcp")).write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe")).mkdir()
    (tmp_path / "checkpoint-20").symlink_to(folder.parent)
    found = scan(tmp_path)
    (item,) = found["checkpoints"]
    assert item["name"] == "a b'; $(touch x)\n/checkpoint-10"
    assert not {"iter_0000010/loop", "iter_0000010/pipe"} & set(item["files"])
    assert any("nowhere" in text for text in item["problems"])
    assert any("\\xff" in text for text in item["problems"])
    assert any("\\xfe" in text for text in found["problems"])


def test_copies_and_removals_under_way_are_no_checkpoints(tmp_path: Path) -> None:
    trees.megatron(tmp_path / "checkpoint-10", 10)
    for name in (".checkpoint-20.part", ".pull-x", f"{layout.REMOVING_PREFIX}checkpoint-30.1"):
        trees.megatron(tmp_path / name, 20)
    assert list(checkpoints(tmp_path)) == ["checkpoint-10"]


def test_what_may_not_be_read_is_told() -> None:
    """In a child that is nobody, since the superuser may read everything."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        trees.megatron(root / "checkpoint-10", 10)
        trees.megatron(root / "checkpoint-20", 20)
        (root / "checkpoint-20" / "args.json").chmod(0)
        (root / "locked").mkdir()
        closed = (root / "checkpoint-10" / "iter_0000010", root / "locked")
        for folder in closed:
            folder.chmod(0)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                os.write(writer, json.dumps(layout.scan([name])).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            found = json.load(stream)
        os.waitpid(child, 0)
        for folder in closed:
            folder.chmod(0o700)
    first, second = found["checkpoints"]
    assert any("cannot list" in text for text in first["problems"])
    assert any("args.json" in text for text in second["problems"])
    assert "locked" in found["problems"][0]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, "\0"])
def test_a_broken_args_json_tells_nothing_and_breaks_nothing(tmp_path: Path, text: str) -> None:
    trees.megatron(tmp_path / "checkpoint-10", 10)
    trees.write(tmp_path / "checkpoint-10" / "args.json", text)
    found = only(tmp_path)
    assert (found["kind"], found["parallel"]) == ("mcore", {"world": 2})


def test_a_missing_folder_is_missing(tmp_path: Path) -> None:
    assert scan(tmp_path / "none")["missing"] == [str(tmp_path / "none")]


# Being written.


def test_a_young_or_half_written_file_means_that_it_is_being_written(tmp_path: Path) -> None:
    folder = trees.megatron(tmp_path / "checkpoint-10", 10)
    young = scan(tmp_path, now_ns=time.time_ns())["checkpoints"][0]
    assert young["writing"]
    assert 0 <= young["age"] < 30
    assert not only(tmp_path)["writing"]
    trees.write(folder / ".metadata.tmp", b"")
    found = only(tmp_path)
    assert (found["writing"], found["half"]) == (True, ["iter_0000010/.metadata"])


def test_a_clock_that_runs_ahead_is_told(tmp_path: Path) -> None:
    trees.megatron(tmp_path / "checkpoint-10", 10)
    (found,) = scan(tmp_path, now_ns=time.time_ns() - 3600 * 10**9)["checkpoints"]
    assert not found["writing"]
    assert "clock" in found["problems"][0]


def test_one_file_seen_twice_has_one_identity(tmp_path: Path) -> None:
    trees.megatron(tmp_path / "disk" / "checkpoint-10", 10)
    (tmp_path / "mount").symlink_to(tmp_path / "disk")
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    here, there, copied = (
        only(tmp_path / name)["files"]["args.json"]["identity"]
        for name in ("disk", "mount", "copy")
    )
    assert here == there != copied


# Keys of the index.


@pytest.mark.parametrize(
    ("keys", "optimizer", "reshardable"),
    [
        (["decoder.layers.0.weight"], False, False),
        (["optimizer.state.exp_avg.decoder.layers.0.weight"], True, True),
        (["chained_0.optimizer.state.exp_avg.decoder.weight"], True, True),
        (["chained_1.optimizer.distributed.dp_group_idx_0.optimizer/shard_0_1"], True, False),
        (["decoder.optimizer.weight"], False, False),
    ],
)
def test_an_optimizer_is_known_by_its_keys(
    keys: list[str], optimizer: bool, reshardable: bool
) -> None:
    told = contents.of_keys(keys)
    assert (told["has_optimizer"], told["reshardable"]) == (optimizer, reshardable)
    assert not told["has_rng"]


@pytest.mark.parametrize("key", ["rng_state", "rng_state/shard_0.0_2.1"])
def test_a_random_state_is_known_by_its_key(key: str) -> None:
    assert contents.of_keys([key])["has_rng"]


# In use.


def test_a_process_that_names_a_folder_or_has_its_file_open_uses_it(tmp_path: Path) -> None:
    folder = trees.transformers(tmp_path / "checkpoint-10")
    other = trees.transformers(tmp_path / "checkpoint-1")
    with (folder / "config.json").open() as file:
        opened = subprocess.Popen(["sleep", "60"], stdin=file)
        named = subprocess.Popen(["tail", "-f", "/dev/null", f"--quiet={folder}/x", "-q"])
        try:
            time.sleep(0.2)
            found = in_use.users([str(folder), str(other)])
        finally:
            for process in (opened, named):
                process.kill()
                process.wait()
    assert f"sleep (pid {opened.pid}) has a file of it open" in found[str(folder)]
    assert found[str(other)] == []
    assert in_use.users([str(folder)]) == {str(folder): []}


def test_another_nodes_module_of_the_same_play_is_no_user(tmp_path: Path) -> None:
    """On one machine, with a disk that both nodes see, it reads the same files just now."""
    folder = tmp_path / "checkpoint-10"
    folder.mkdir()
    (folder / "file").write_text("x")
    shell, play, worker, other_worker, other, stranger = range(900001, 900007)
    words_of_play = ["python", "/bin/ansible-playbook", "ledger.yml"]
    for pid, parent, words in (
        (os.getpid(), worker, ["python"]),
        (worker, play, words_of_play),
        (play, shell, words_of_play),
        (shell, 1, ["sh"]),
        (other_worker, play, words_of_play),
        (other, other_worker, ["python"]),
        (stranger, shell, ["python"]),
    ):
        process = tmp_path / "proc" / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "stat").write_text(f"{pid} (python) S {parent} 0")
        (process / "cmdline").write_bytes(b"\0".join(word.encode() for word in words))
        if pid in {other, stranger}:
            (process / "fd" / "3").symlink_to(folder / "file")
    found = in_use.users([str(folder)], tmp_path / "proc")
    assert found[str(folder)] == [f"python (pid {stranger}) has a file of it open"]


# The module.


@pytest.mark.parametrize("check", [False, True])
def test_the_module_lists_and_changes_nothing(
    run_module: Callable[..., dict[str, Any]], tmp_path: Path, check: bool
) -> None:
    trees.megatron(tmp_path / "checkpoint-10", 10)
    answer = run_module("checkpoint_ledger", check=check, paths=[str(tmp_path), "/none"])
    assert [item["name"] for item in answer["checkpoints"]] == ["checkpoint-10"]
    assert answer["missing"] == ["/none"]
    assert answer["checkpoints"][0]["used_by"] == []
    assert not answer["changed"]
