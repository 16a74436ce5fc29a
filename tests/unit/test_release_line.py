"""The release line that nodes have, with the installed package and a fork of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import matrix, release_line
from pyswiftops.errors import BadInputError, MatrixError
from pyswiftops.planner.plan import make_plan
from pyswiftops.results import CommandResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.command import Late

AT = Path("/nowhere/fleet.yml")
RUN = {
    "name": "r",
    "model": {"path": "/m"},
    "data": {"train": ["/d.jsonl"]},
    "training": {"iterations": 1, "global_batch_size": 2},
}
Execute = Callable[[Fleet, list[str]], list[CommandResult]]


def fleet(line: str = "auto") -> Fleet:
    nodes = [{"name": f"n-{number}", "address": f"10.0.0.{number}", "gpus": 1} for number in (1, 2)]
    base = {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "line": line, "nodes": nodes}
    return Fleet.from_document(base, AT)


def here(*paths: Path) -> Execute:
    """Nodes that are this Python, each with a folder before the installed packages."""

    def execute(machines: Fleet, argv: list[str]) -> list[CommandResult]:
        results = []
        for node, path in zip(machines.nodes, paths or (None, None), strict=True):
            done = subprocess.run(
                [sys.executable, *argv[1:]],
                env={**os.environ, "PYTHONPATH": str(path or "")},
                capture_output=True,
                text=True,
                check=False,
            )
            results.append(CommandResult(node.name, done.returncode, done.stdout, done.stderr))
        return results

    return execute


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ms-swift as a fork has it: another version, and one flag of training renamed."""
    folder = tmp_path_factory.mktemp("fork")
    spec = importlib.util.find_spec("swift")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0])
    shutil.copytree(source, folder / "swift", ignore=shutil.ignore_patterns("__pycache__"))
    (info,) = source.parent.glob("ms_swift-*.dist-info")
    shutil.copytree(info, folder / "ms_swift-4.7.0.dev0.dist-info")
    metadata = folder / "ms_swift-4.7.0.dev0.dist-info" / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(text.replace("\nVersion: 4.6.0", "\nVersion: 4.7.0.dev0"), encoding="utf-8")
    renamed = 0
    for path in (folder / "swift" / "megatron" / "arguments").glob("*.py"):
        code = path.read_text(encoding="utf-8")
        renamed += code.count("    micro_batch_size: int")
        path.write_text(code.replace("    micro_batch_size: int", "    rows_at_once: int"), "utf-8")
    assert renamed > 0
    return folder


def test_a_release_is_its_line() -> None:
    resolved, found = release_line.resolve(fleet(), here())
    assert resolved.line == "4.6"
    assert resolved.version is None
    assert found is not None
    assert found.version == matrix.row("4.6").release
    assert found.flags == {}


def test_a_named_line_asks_no_node() -> None:
    def never(_fleet: Fleet, _argv: list[str]) -> list[CommandResult]:
        raise AssertionError

    named = fleet("3.12")
    assert release_line.resolve(named, never) == (named, None)


def test_a_fork_is_read_on_the_nodes_and_every_flag_is_held_to_it(fork: Path) -> None:
    resolved, found = release_line.resolve(fleet(), here(fork, fork))
    assert (resolved.line, resolved.version) == ("4.6", "4.7.0.dev0")
    assert found is not None
    installed = matrix.typed_flags("4.6")["swift sft"]
    assert found.flags["swift sft"] == installed
    plan = make_plan(resolved, RunSpec.from_document({"run": RUN}, AT), "r")
    told = list(release_line.misfits(found, [c for jobs in plan.jobs.values() for c in jobs]))
    assert {finding.found for finding in told} == {"--micro_batch_size 1"}
    assert len(told) == 2  # on either node
    assert "4.7.0.dev0" in told[0].expected


def test_values_are_held_to_the_fork_too(fork: Path) -> None:
    _, found = release_line.resolve(fleet(), here(fork, fork))
    assert found is not None
    plan = make_plan(fleet("4.6"), RunSpec.from_document({"run": RUN}, AT), "r")
    (train, _) = plan.jobs["train"]
    argv = ("megatron", "sft", "--recompute_granularity", "some", "--max_length", Late("x"))
    bad = type(train)(**{**train.__dict__, "argv": argv})
    (finding,) = release_line.misfits(found, [bad])
    assert finding.found == "--recompute_granularity some"


def test_nodes_that_differ_are_named(fork: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"n-1: 4\.7\.0\.dev0, n-2: 4\.6\.0"):
        release_line.resolve(fleet(), here(fork, tmp_path))
    other = tmp_path / "other"
    shutil.copytree(fork, other)
    arguments = other / "swift" / "megatron" / "arguments"
    for path in arguments.glob("*.py"):
        code = path.read_text(encoding="utf-8")
        path.write_text(code.replace("    rows_at_once: int", "    rows_twice: int"), "utf-8")
    with pytest.raises(BadInputError, match="the same argument classes"):
        release_line.resolve(fleet(), here(fork, other))


def test_a_node_without_ms_swift_and_one_without_an_answer() -> None:
    def told(first: str, second: str) -> Execute:
        def execute(_fleet: Fleet, _argv: list[str]) -> list[CommandResult]:
            return [
                CommandResult("n-1", 0, first, ""),
                CommandResult("n-2", 1, second, "no python"),
            ]

        return execute

    facts: dict[str, Any] = {"version": None, "swift": None, "plain": False}
    with pytest.raises(BadInputError, match="none on n-1, n-2"):
        release_line.resolve(fleet(), told(json.dumps(facts), json.dumps(facts)))
    with pytest.raises(MatrixError, match="no python"):
        release_line.resolve(fleet(), told(json.dumps(facts), ""))
