"""What a Python really has, against the row of its release line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import matrix
from pyswiftops.installed import conflicts, probe, read

ROW = matrix.row("4.6")


def look(path: str = "") -> dict[str, Any]:
    argv = [sys.executable, *probe(ROW)[1:]]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    return read(done.stdout)


def test_what_is_installed_here_fits() -> None:
    facts = look()
    assert facts["packages"]["ms-swift"]["version"] == ROW.release
    assert conflicts(ROW, "node-1", facts) == []


def test_a_package_on_the_python_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "__init__.py").touch()
    (found,) = conflicts(ROW, "node-1", look(str(tmp_path)))
    assert found.where == "node-1: peft"
    assert str(tmp_path) in found.found
    assert "PYTHONPATH" in found.remedy


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("transformers", {"version": "4.51.0"}, None),
        ("transformers", {"version": "5.21.0"}, "5.21.0"),
        ("trl", {"version": None, "module": None, "root": None}, "not installed"),
        ("transformer_engine", {"version": None, "module": None, "root": None}, None),
        ("peft", {"version": "0.20.0+local.1"}, None),
        ("peft", {"version": "unknown"}, "unknown"),
        ("ms-swift", {"version": "4.5.3"}, "4.5.3"),
        ("ms-swift", {"module": "/src/swift/__init__.py", "editable": True}, None),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, change: dict[str, Any], expected: str | None
) -> None:
    facts = look()
    facts["packages"][name] |= change
    found = conflicts(ROW, "node-1", facts)
    assert [item.found for item in found] == ([] if expected is None else [expected])


def test_python_itself_is_looked_at() -> None:
    (found,) = conflicts(ROW, "n", {"python": "3.8.10", "packages": {}})
    assert found.where == "n: Python"


@pytest.mark.parametrize("text", ["", "no module named json", "{"])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read(text)
