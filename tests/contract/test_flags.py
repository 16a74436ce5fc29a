"""The committed flag inventory is what the installed release really takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyswiftops import matrix
from pyswiftops.planner.reasons import OURS

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
sys.path.insert(0, str(Path(__file__).parent))
from cases import CASES, plan_of

import inventory

WALK = """
import dataclasses, importlib, json, sys
found = {}
for verb, name in json.loads(sys.argv[1]).items():
    module = "swift.megatron.arguments" if verb.startswith("megatron") else "swift.arguments"
    fields = dataclasses.fields(getattr(importlib.import_module(module), name))
    found[verb] = [field.name for field in fields if field.init]
print("INVENTORY " + json.dumps(found))
"""


# Upstream's own parser, without what its classes then do with the values (loading models).
PARSE = """
import importlib, json, sys
from transformers import HfArgumentParser
from swift.utils import utils
parsers, wrong = {}, []
for name, verb, argv in json.loads(sys.stdin.read()):
    if verb not in parsers:
        module = "swift.megatron.arguments" if verb.startswith("megatron") else "swift.arguments"
        with utils._patch_get_type_hints():
            parsers[verb] = HfArgumentParser([getattr(importlib.import_module(module), name)])
        parsers[verb].allow_abbrev = False
    try:
        _, rest = parsers[verb].parse_known_args(argv)
    except SystemExit:
        rest = ["refused"]
    wrong += [f"{verb}: {rest}"] if rest else []
print("WRONG " + json.dumps(wrong))
"""
LATE = {"train.checkpoint": "c", "data.max_length": 8}
PORTS = {"lease.master_port": 1, "lease.deploy_port": 2}


def parsed(commands: list[list[object]]) -> list[str]:
    """What the installed release's parser says of commands, each class, verb and arguments."""
    backend = [sys.executable, "-m", "pyswiftops.cpu_backend"]
    done = subprocess.run(
        [*backend, sys.executable, "-c", PARSE],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG ")]
    return list(json.loads(line[6:]))


@pytest.mark.timeout(300)
def test_the_installed_parser_takes_every_rendered_command() -> None:
    classes, commands = inventory.classes("4.6"), []
    for case in CASES:
        for job, jobs in plan_of(case).jobs.items():
            for command in jobs if job not in OURS else ():
                words = list(command.bind({**LATE, **PORTS}).argv)
                begin = next(n for n, word in enumerate(words) if word in {"swift", "megatron"})
                verb = " ".join(map(str, words[begin : begin + 2]))
                commands.append([classes[verb], verb, words[begin + 2 :]])
    done = {verb for _, verb, _ in commands}
    assert done >= {"megatron sft", "megatron pt", "megatron rlhf", "megatron export", "swift sft"}
    assert done >= {"swift infer", "swift deploy", "swift eval", "swift sample", "swift rollout"}
    assert parsed(commands) == []
    bad = [
        [classes["megatron sft"], "megatron sft", words]
        for words in (["--lrr", "1"], ["--lr", "x"])
    ]
    assert parsed(bad) == ["megatron sft: ['--lrr', '1']", "megatron sft: ['refused']"]


@pytest.mark.timeout(300)
def test_the_inventory_equals_the_installed_argument_classes() -> None:
    backend = [sys.executable, "-m", "pyswiftops.cpu_backend"]
    done = subprocess.run(
        [*backend, sys.executable, "-c", WALK, json.dumps(inventory.classes("4.6"))],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("INVENTORY ")]
    installed = {verb: frozenset(names) for verb, names in json.loads(line[10:]).items()}
    assert matrix.flags("4.6") == installed


def test_the_installed_release_is_the_one_of_the_row() -> None:
    from importlib.metadata import version  # noqa: PLC0415

    row = matrix.row("4.6")
    assert version("ms-swift") == row.release
    for name in ("mcore-bridge", "transformers", "peft", "trl"):
        assert version(name) == row.packages[name].pin
