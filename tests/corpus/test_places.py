"""What lies at the path of a fleet file or a run file: never waited for, never half read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

from .conftest import BASES, refused

FLEET, RUN = BASES["fleet.yml"]["local"], BASES["run.yml"]["run"]


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _laughs(path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    path.write_text("\n".join(lines), encoding="utf-8")


def _write(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


PLACES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("nothing", lambda _path: None, "no such file"),
    ("folder", lambda path: path.mkdir(), "a folder"),
    ("pipe", os.mkfifo, "a pipe or a device"),
    ("link to nothing", lambda path: path.symlink_to("gone"), "no such file"),
    ("link to itself", _loop, "Too many levels of symbolic links"),
    ("link to a device", lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
    ("empty", _write(b""), "an empty file"),
    ("blank", _write(b"\n  \n"), "an empty file"),
    ("comment", _write(b"# nothing\n"), "an empty file"),
    ("null", _write(b"null\n"), "an empty file"),
    ("text", _write(b"hello\n"), "a str"),
    ("list", _write(b"- a\n"), "a list"),
    ("number", _write(b"7\n"), "a int"),
    ("UTF-16 little", _write(FLEET.encode("utf-16-le").join([b"\xff\xfe", b""])), "UTF-16"),
    ("UTF-16 big", _write(FLEET.encode("utf-16-be").join([b"\xfe\xff", b""])), "UTF-16"),
    ("GBK", _write("# 训练\n".encode("gbk") + FLEET.encode()), "which is not UTF-8"),
    ("Latin-1", _write(FLEET.encode() + "# é\n".encode("latin-1")), ":9"),
    ("NUL bytes", _write(FLEET.encode() + b"\0\0"), "not YAML"),
    ("program", _write(b"\x7fELF\x02\x01\x01"), "not YAML"),
    ("archive", _write(b"\x1f\x8b\x08\x00\x00"), "which is not UTF-8"),
    ("too large", _write(b"a: b\n" * 300_000), "at most 1000000 bytes"),
    ("deep lists", _write(b"a: " + b"[" * 500 + b"]" * 500), "levels"),
    ("deep mappings", _write(b"a: " + b"{b: " * 60 + b"1" + b"}" * 60), "at most 40 levels"),
    ("deep indentation", _write(b"".join(b" " * i + b"a:\n" for i in range(200))), "levels"),
    ("a billion laughs", _laughs, "aliases that stand for more"),
    ("number of 5000 digits", _write(b"a: " + b"9" * 5000), "not YAML"),
    ("JSON cut short", _write(b'{"plugin": "pyswiftops.fleet.fleet", "nodes": ['), "not YAML"),
    ("INI", _write(b"[nodes]\nnode-1 ansible_host=x\n"), "not YAML"),
    ("merge conflict", _write(b"<<<<<<< HEAD\na: b\n=======\na: c\n>>>>>>> x\n"), "not YAML"),
    ("carriage returns in a key", _write(b'"a\\rb": c\n'), "found: "),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [Fleet, RunSpec])
@pytest.mark.parametrize(("make", "said"), [pytest.param(*p[1:], id=p[0]) for p in PLACES])
def test_a_place_that_holds_no_such_file(
    tmp_path: Path, kind: type[Fleet | RunSpec], make: Callable[[Path], Any], said: str
) -> None:
    path = tmp_path / "file.yml"
    make(path)
    begin = time.monotonic()
    refused(tmp_path, [said], lambda: kind.load(path))
    assert time.monotonic() - begin < 30  # a pipe would be waited for, laughs expanded


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    refused(tmp_path, ["found: "], lambda: Fleet.load(tmp_path / "a\0b"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Page 0 of this process: an ordinary file by its mode, and reading it fails."""
    refused(tmp_path, ["Input/output error"], lambda: Fleet.load("/proc/self/mem"))


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + FLEET.encode(),
        FLEET.replace("\n", "\r\n").encode(),
        FLEET.replace("\n", "\r").encode(),
        b"---\n" + FLEET.encode() + b"...\n",
        b"%YAML 1.1\n---\n" + FLEET.encode(),
        FLEET.encode() + "# 训练用的两个节点, a: b\n".encode(),
        FLEET.replace("- name: node-2", "- {<<: *one, name: node-2}")
        .replace("- name: node-1", "- &one {name: node-1}")
        .encode(),
        FLEET.rstrip().encode(),
    ],
)
def test_what_editors_do_to_a_good_file_is_accepted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fleet.yml"
    path.write_bytes(data)
    assert [node.name for node in Fleet.load(path).nodes] == ["node-1", "node-2"]


def test_a_learning_rate_may_be_written_as_everybody_does(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    text = RUN.replace("iterations: 3", "iterations: 3\n    learning_rate: 1e-4")
    path.write_text(text, encoding="utf-8")
    assert RunSpec.load(path).training.learning_rate == 1e-4
