from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import (
    file_copy,
    manifest,
    transfer,
)

MIB = 1024 * 1024


def pull(source: Path, dest: Path, files: dict[str, Any], verify: str = "true") -> transfer.Plan:
    checked = manifest.validated(files)
    todo = transfer.plan(dest, checked, verify)
    transfer.pull_local(source, dest, checked, todo, verify)
    return todo


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def big(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """One file of more than two chunks, and its manifest."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "w").write_bytes(os.urandom(9 * MIB + 5))
    return source, manifest.build(str(source))["files"]


@pytest.mark.parametrize("verify", ["true", "false", "reread"])
def test_a_pull_makes_an_equal_folder_and_the_next_does_nothing(
    hostile_tree: Path, tmp_path: Path, verify: str
) -> None:
    files = manifest.build(str(hostile_tree))["files"]
    dest = tmp_path / "de st" / "deeper"

    first = pull(hostile_tree, dest, files, verify)
    second = transfer.plan(dest, files, verify)

    assert tree(dest) == tree(hostile_tree)
    assert manifest.build(str(dest))["files"] == files  # times as well
    assert set(first.copy) == set(files)
    assert (second.copy, set(second.skipped), second.bytes) == ((), set(files), 0)


def test_only_what_differs_is_copied_and_nothing_is_deleted(
    hostile_tree: Path, tmp_path: Path
) -> None:
    files = manifest.build(str(hostile_tree))["files"]
    dest = tmp_path / "dest"
    shutil.copytree(hostile_tree, dest)
    (dest / ".metadata").write_bytes(b"Z" * 1000)  # same size, other bytes
    (dest / "-rf").unlink()
    (dest / "mine").write_bytes(b"keep")

    assert pull(hostile_tree, dest, files).copy == ("-rf", ".metadata")
    assert tree(dest) == {**tree(hostile_tree), "mine": b"keep"}


def test_a_corrupted_source_is_refused_with_both_hashes(
    big: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source, files = big
    data = bytearray((source / "w").read_bytes())
    data[5 * MIB] ^= 1
    (source / "w").write_bytes(data)
    found = manifest.build(str(source))["files"]["w"]["blake2b"]

    with pytest.raises(transfer.PullError) as refused:
        pull(source, tmp_path / "dest", files)

    assert str(source / "w") in str(refused.value)
    assert files["w"]["blake2b"] in str(refused.value)
    assert found in str(refused.value)
    assert tree(tmp_path / "dest") == {}


def test_a_refused_file_leaves_the_old_one_and_the_good_ones(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    dest.mkdir()
    for name in ("bad", "good-1", "good-2"):
        (source / name).write_bytes(name.encode())
    files = manifest.build(str(source))["files"]
    (source / "bad").write_bytes(b"BAD")
    (dest / "bad").write_bytes(b"old")

    with pytest.raises(transfer.PullError, match="2 of 3 files were copied and are kept"):
        pull(source, dest, files)
    assert tree(dest) == {"bad": b"old", "good-1": b"good-1", "good-2": b"good-2"}


def test_a_source_of_another_size_is_refused(
    big: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source, files = big
    (source / "w").write_bytes(b"short")
    with pytest.raises(
        transfer.PullError, match=f"expected a file of {9 * MIB + 5} bytes.*found 5"
    ):
        pull(source, tmp_path / "dest", files)
    with pytest.raises(transfer.PullError, match="expected the source folder"):
        pull(tmp_path / "nowhere", tmp_path / "dest", files)


def test_a_half_copied_file_is_continued(big: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The source's first bytes are spoilt: only a pull that keeps the half copy can succeed."""
    source, files = big
    dest = tmp_path / "dest"
    dest.mkdir()
    data = (source / "w").read_bytes()
    (dest / ".w.part").write_bytes(data[: 6 * MIB])
    (source / "w").write_bytes(b"X" * MIB + data[MIB:])

    pull(source, dest, files)
    assert tree(dest) == {"w": data}


@pytest.mark.parametrize("size", [4 * MIB, 9 * MIB + 5, 12 * MIB])
@pytest.mark.parametrize("verify", ["true", "false"])
def test_a_half_copy_of_something_else_is_replaced(
    big: tuple[Path, dict[str, Any]], tmp_path: Path, size: int, verify: str
) -> None:
    source, files = big
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / ".w.part").write_bytes(b"z" * size)
    pull(source, dest, files, verify)
    assert tree(dest) == tree(source)


def test_a_pull_that_is_cut_off_shows_no_file_and_is_continued(
    big: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source, files = big
    dest = tmp_path / "dest"
    script = (
        "import json, resource, sys; sys.path[:0] = json.loads(sys.argv[1])\n"
        "from pathlib import Path\n"
        "from ansible_collections.pyswiftops.fleet.plugins.module_utils import transfer\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({5 * MIB}, {5 * MIB}))\n"
        "files = json.loads(sys.argv[4]); dest = Path(sys.argv[3])\n"
        "todo = transfer.plan(dest, files, 'true')\n"
        "transfer.pull_local(Path(sys.argv[2]), dest, files, todo, 'true')\n"
    )
    argv = [sys.executable, "-c", script, json.dumps(sys.path), source, dest, json.dumps(files)]
    cut = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert "File too large" in cut.stderr
    assert {p.name: p.stat().st_size for p in dest.iterdir()} == {".w.part": 5 * MIB}
    pull(source, dest, files)
    assert tree(dest) == tree(source)


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    files = {"w": {"size": 10**18, "mtime_ns": 0, "blake2b": "0" * 32}}
    with pytest.raises(transfer.PullError) as refused:
        pull(tmp_path / "source", tmp_path / "a/b", files)
    for part in ("expected 1000000000000000000 bytes free", "found ", "on the disk of", "Free "):
        assert part in str(refused.value)
    assert not (tmp_path / "a").exists()


def test_a_half_copy_counts_as_space_already_taken(
    big: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, files = big
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / ".w.part").write_bytes((source / "w").read_bytes()[: 6 * MIB])
    asked: list[int] = []
    monkeypatch.setattr(transfer, "require_space", lambda _dest, needed: asked.append(needed))
    pull(source, dest, files)
    assert asked == [3 * MIB + 5]


@pytest.mark.parametrize("name", ["../out", "/out", "in/../../out"])
def test_names_that_climb_out_of_dest_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(manifest.ManifestError, match="refused the file name"):
        pull(tmp_path / "source", tmp_path / "dest", {name: {"size": 4, "blake2b": "0" * 32}})
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize("name", ["link/w", "link"])
def test_links_that_lead_out_of_dest_are_refused(tmp_path: Path, name: str) -> None:
    source, dest, outside = tmp_path / "source", tmp_path / "dest", tmp_path / "outside"
    for folder in (source, dest, outside):
        folder.mkdir()
    (dest / "link").symlink_to(outside)
    entry = {"size": 1, "mtime_ns": 0, "blake2b": "0" * 32}
    with pytest.raises(transfer.PullError, match="a link that leads out of"):
        pull(source, dest, {name: entry})
    assert list(outside.iterdir()) == []


def test_a_link_inside_dest_and_a_dest_that_is_a_link_are_fine(
    hostile_tree: Path, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    (real / "elsewhere").mkdir(parents=True)
    (real / "deep").symlink_to("elsewhere")
    (tmp_path / "dest").symlink_to(real)
    pull(hostile_tree, tmp_path / "dest", manifest.build(str(hostile_tree))["files"])
    assert (real / "elsewhere/.hidden/__0_0.distcp").is_file()


def test_a_temporary_name_that_is_a_link_is_not_followed(
    big: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source, files = big
    dest, victim = tmp_path / "dest", tmp_path / "victim"
    dest.mkdir()
    victim.write_bytes(b"mine")
    (dest / ".w.part").symlink_to(victim)
    with pytest.raises(transfer.PullError, match="cannot copy 'w'"):
        pull(source, dest, files)
    assert victim.read_bytes() == b"mine"


@pytest.mark.parametrize(("there", "wanted"), [("w/x", "w"), ("w", "w/x")])
def test_a_folder_where_a_file_belongs_is_named(tmp_path: Path, there: str, wanted: str) -> None:
    path = tmp_path / "dest" / there
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(transfer.PullError, match=r"cannot write.*Move it away"):
        transfer.plan(tmp_path / "dest", {wanted: {"size": 1, "blake2b": "0" * 32}}, "true")


def test_two_pulls_do_not_write_one_file(big: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    source, files = big
    dest = tmp_path / "dest"
    dest.mkdir()
    with (dest / ".w.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(transfer.PullError, match="another pull is writing"):
            pull(source, dest, files)
    pull(source, dest, files)


def test_a_manifest_without_hashes_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"abc")
    files = manifest.build(str(tmp_path), hashed=False)["files"]
    with pytest.raises(transfer.PullError, match=r"found none for 'w'.*hash: true"):
        transfer.plan(tmp_path / "dest", files, "true")


def test_reread_sees_a_disk_that_wrote_something_else(
    big: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, files = big
    fsync = os.fsync

    def bad_disk(descriptor: int) -> None:
        os.pwrite(descriptor, b"\0" * 9, MIB) if os.fstat(descriptor).st_size > MIB else None
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", bad_disk)
    with pytest.raises(transfer.PullError, match="as read back from this node's disk"):
        pull(source, tmp_path / "reread", files, "reread")
    assert tree(tmp_path / "reread") == {}


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS])
def test_an_old_kernel_copies_with_sendfile(
    big: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    source, files = big

    def missing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(file_copy, "_clone", lambda *_: False)
    monkeypatch.setattr(os, "copy_file_range", missing)
    pull(source, tmp_path / "dest", files, "false")
    assert tree(tmp_path / "dest") == tree(source)


def test_a_shared_extent_is_hashed_too(
    big: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a filesystem with reflinks: the clone copies, and spoils one byte."""
    source, files = big

    def clone(reader: int, writer: int) -> bool:
        os.sendfile(writer, reader, 0, 9 * MIB + 5)
        os.pwrite(writer, b"!!!!!!!!", MIB)
        return True

    monkeypatch.setattr(file_copy, "_clone", clone)
    with pytest.raises(transfer.PullError, match="expected blake2b"):
        pull(source, tmp_path / "dest", files)
