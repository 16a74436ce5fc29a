"""The committed flag inventory is what the installed release really takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyswiftops import matrix

sys.path.insert(0, str(Path(__file__).parent))
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
