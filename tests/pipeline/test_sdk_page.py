"""The programs of docs/how-to/sdk.md, run as they stand there; real training of a tiny model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pyswiftops import Client

from .tiny import make_model, make_rows

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "sdk.md"


def programs() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def write_inputs(folder: Path) -> None:
    """The fleet file and the run file that the page speaks of."""
    make_model(folder / "model")
    make_rows(folder / "rows.jsonl")
    fleet = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "nodes",
        "python": sys.executable,
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    run = {
        "name": "tiny",
        "model": {"path": "model", "model_type": "qwen3", "template": "chatml"},
        "data": {"train": ["rows.jsonl"], "max_length": 64},
        "training": {"iterations": 3, "micro_batch_size": 1, "global_batch_size": 2},
        "parallel": {"pipeline": 2},
    }
    (folder / "fleet.yml").write_text(yaml.safe_dump(fleet), encoding="utf-8")
    (folder / "run.yml").write_text(yaml.safe_dump({"run": run}), encoding="utf-8")


def test_the_three_programs_of_the_page_do_what_it_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("sdk")  # short: a socket below a node's root has 107 bytes
    write_inputs(folder)
    printed = []
    for number, program in enumerate(programs()):
        path = folder / f"example_{number}.py"
        path.write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(path)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=700,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed.append(done.stdout)
    first, second, third = printed
    assert "convert took" in first
    assert "data succeeded\nconvert succeeded\n" in first
    assert {"node-1 train stopped", "node-2 train stopped"} <= set(second.splitlines())
    assert "gather" in third
    assert third.splitlines()[-2] == "done"
    stages = Client(folder / "runs").load("example").stages
    assert {name for name, stage in stages.items() if stage["state"] == "succeeded"} == {
        "data",
        "convert",
        "train",
        "gather",
    }
