"""The module ``record``: fingerprints within a bound, and the machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.recorded import recorded
from pyswiftops.runner import ModuleResult, PlaybookResult

RunModule = Callable[..., dict[str, Any]]


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def test_rows_are_counted_and_hashed(tmp_path: Path, run_module: RunModule) -> None:
    rows = tmp_path / "r ows.jsonl"
    rows.write_bytes(b'{"a": 1}\n\n{"a": 2}\n')
    told = run_module("record", files={"data.1": str(rows), "gone": str(tmp_path / "no")})
    assert not told["changed"]
    assert "machine" not in told
    (problem,) = told["problems"]
    assert str(tmp_path / "no") in problem
    fingerprint = told["files"]["data.1"]
    assert (fingerprint["rows"], fingerprint["bytes"], fingerprint["whole"]) == (2, 19, True)
    assert fingerprint["files"] == {
        "r ows.jsonl": {"bytes": 19, "blake2b": digest(rows.read_bytes())}
    }
    before = fingerprint["blake2b"]
    rows.write_bytes(b'{"a": 1}\n\n{"a": 3}\n')
    assert run_module("record", files={"x": str(rows)})["files"]["x"]["blake2b"] != before


def test_the_smallest_files_are_hashed_first_and_no_more_than_the_limit(
    tmp_path: Path, run_module: RunModule
) -> None:
    for name, size in (("a.weights", 1000), ("config.json", 10), ("tokenizer.json", 20)):
        (tmp_path / name).write_bytes(b"x" * size)
    model = run_module("record", files={"model": str(tmp_path)}, limit=100)["files"]["model"]
    assert model["files"]["config.json"]["blake2b"] == digest(b"x" * 10)
    assert model["files"]["tokenizer.json"]["blake2b"] == digest(b"x" * 20)
    assert model["files"]["a.weights"] == {"bytes": 1000, "blake2b": None}
    assert (model["whole"], model["bytes"], model["left_out"]) == (False, 1030, 0)


def test_the_machine_is_told(
    tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"  # a GPU cannot be had here: the program that tells of it
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine = run_module("record", machine=True)["machine"]
    assert machine["gpus"] == ["NVIDIA H100 80GB HBM3, 81559 MiB"]
    assert machine["driver"] == "550.54.15"
    assert machine["kernel"]
    assert machine["memory_bytes"] > 0
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert "gpus" not in run_module("record", machine=True)["machine"]


def result(*items: tuple[str, str, dict[str, Any]]) -> PlaybookResult:
    return PlaybookResult(
        ok=True,
        results=[ModuleResult(what, "", node, data, failed=False) for what, node, data in items],
    )


def test_nodes_that_told_the_same_are_one_group() -> None:
    packages = {"packages": {"torch": "2.13.0"}}
    jobs = [
        (
            "job",
            f"node-{number}",
            {"directory": "/r/jobs/train", "imports": packages, "curve": None},
        )
        for number in range(512)
    ]
    odd = {"packages": {"torch": "2.12.0"}}
    curve = [[1, 2.5, None, None]]
    last = ("job", "node-512", {"directory": "/r/jobs/train", "imports": odd, "curve": curve})
    machines = [("record", f"node-{n}", {"machine": {"kernel": "6"}, "files": {}}) for n in (1, 2)]
    told = recorded(result(*jobs, last, *machines))
    assert [len(group["nodes"]) for group in told["imports"]["train"]] == [512, 1]
    assert told["curve"] == curve
    assert told["machines"] == [{"nodes": ["node-1", "node-2"], "kernel": "6"}]
    assert len(json.dumps(told)) < 10_000
    assert recorded(result()) == {}
