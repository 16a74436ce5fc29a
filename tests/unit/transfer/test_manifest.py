from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def test_every_file_is_listed_with_its_size_time_and_hash(hostile_tree: Path) -> None:
    found = manifest.build(str(hostile_tree))

    files = [path for path in hostile_tree.rglob("*") if path.is_file()]
    assert found["files"] == {
        path.relative_to(hostile_tree).as_posix(): {
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "blake2b": digest(path.read_bytes()),
        }
        for path in files
    }
    assert len(found["files"]) == 10
    assert ".metadata" in found["files"]
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert (found["missing"], found["left_out"]) == (False, [])


def test_a_hash_covers_more_than_one_chunk(tmp_path: Path) -> None:
    data = os.urandom(2 * manifest.CHUNK + 17)
    (tmp_path / "big").write_bytes(data)
    assert manifest.build(str(tmp_path))["files"]["big"]["blake2b"] == digest(data)


def test_without_hash_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    monkeypatch.setattr(os, "readv", lambda *_: pytest.fail("the file was read"))
    assert manifest.build(str(tmp_path), hashed=False)["files"]["f"]["blake2b"] is None


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ([], {".metadata", "a.distcp", "i/.metadata", "i/__0_0.distcp", "i/j/x.txt"}),
        (["*"], {".metadata", "a.distcp", "i/.metadata", "i/__0_0.distcp", "i/j/x.txt"}),
        (["*.distcp"], {"a.distcp", "i/__0_0.distcp"}),
        ([".metadata"], {".metadata", "i/.metadata"}),
        (["i/*"], {"i/.metadata", "i/__0_0.distcp"}),
        (["i/**"], {"i/.metadata", "i/__0_0.distcp", "i/j/x.txt"}),
        (["**/x.txt"], {"i/j/x.txt"}),
        (["/.metadata"], {".metadata"}),
        (["__[0-3]_?.distcp"], {"i/__0_0.distcp"}),
        (["__[!0]_?.distcp"], set()),
        (["nothing", "x.*"], {"i/j/x.txt"}),
    ],
)
def test_globs_select_hidden_files_too(
    tmp_path: Path, include: list[str], expected: set[str]
) -> None:
    for name in (".metadata", "a.distcp", "i/.metadata", "i/__0_0.distcp", "i/j/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert set(manifest.build(str(tmp_path), include)["files"]) == expected


def test_a_missing_folder_is_an_answer_and_a_file_stands_for_itself(tmp_path: Path) -> None:
    assert manifest.build(str(tmp_path / "no"))["missing"] is True
    (tmp_path / "f").write_bytes(b"abc")
    (tmp_path / "g").write_bytes(b"")
    answer = manifest.build(str(tmp_path / "f"))
    assert (answer["folder"], answer["missing"], answer["bytes"]) == (str(tmp_path), False, 3)
    assert list(answer["files"]) == ["f"]


def test_links_to_files_count_and_what_is_no_file_is_reported(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights")
    root = tmp_path / "snapshot"
    (root / "checkpoint-2").mkdir(parents=True)
    (root / "model.safetensors").symlink_to(blob)
    (root / "last-checkpoint").symlink_to("checkpoint-2")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")

    found = manifest.build(str(root))

    assert found["files"]["model.safetensors"]["blake2b"] == digest(b"weights")
    assert set(found["files"]) == {"model.safetensors"}
    assert {item["path"]: item["why"] for item in found["left_out"]} == {
        "last-checkpoint": "link to a folder",
        "gone": "broken link",
        "pipe": "not a regular file",
    }


def test_temporary_files_of_a_pull_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".pull-0123").mkdir()
    (tmp_path / ".pull-0123/x").write_bytes(b"half")
    (tmp_path / ".w.bin.part").write_bytes(b"half")
    (tmp_path / "w.part").write_bytes(b"a user's own")
    assert set(manifest.build(str(tmp_path))["files"]) == {"w.part"}


def test_a_name_that_is_not_utf8_is_named_and_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")).write_bytes(b"")
    with pytest.raises(manifest.ManifestError, match=r"bad\\xff.*is not UTF-8"):
        manifest.build(str(tmp_path))


def test_a_file_that_is_still_being_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "__0_0.distcp"
    path.write_bytes(b"a" * 100)
    hash_fd = manifest.hash_fd

    def hash_while_it_grows(descriptor: int) -> tuple[str, int]:
        answer: tuple[str, int] = hash_fd(descriptor)
        with path.open("ab") as stream:
            stream.write(b"more")
        return answer

    monkeypatch.setattr(manifest, "hash_fd", hash_while_it_grows)
    with pytest.raises(manifest.ManifestError, match=r"changed while it was read: 100 bytes.*104"):
        manifest.build(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "./a", "a/.", "a/", "a\0b"),
        *(".x.part", "a/.x.part", ".pull-1/x", 3, None),
    ],
)
def test_names_that_leave_the_folder_are_refused(name: object) -> None:
    with pytest.raises(manifest.ManifestError):
        manifest.safe_relative(name)


@pytest.mark.parametrize(
    "files",
    [
        {"a": {"size": -1}},
        {"a": {"size": True}},
        {"a": {"size": "1"}},
        {"a": {}},
        {"a": None},
        {"a": {"size": 1, "mtime_ns": "now"}},
        {"a": {"size": 1, "blake2b": "../../etc"}},
        {"a": {"size": 1, "blake2b": 7}},
        {"a": {"size": 1}, "a/b": {"size": 1}},
        {"a": {"size": 1}, "a-c": {"size": 1}, "a/b/c": {"size": 1}},
    ],
)
def test_a_manifest_from_elsewhere_is_checked(files: dict[str, object]) -> None:
    with pytest.raises(manifest.ManifestError):
        manifest.validated(files)


def test_what_build_returns_passes_the_check(hostile_tree: Path) -> None:
    files = manifest.build(str(hostile_tree))["files"]
    assert manifest.validated(files) == files
