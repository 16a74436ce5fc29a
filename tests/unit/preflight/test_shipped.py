"""The program that the action plugin ships: its sources load in their order on a bare Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.action.converge import START, UTILS
from ansible_collections.pyswiftops.fleet.plugins.action.preflight import SOURCES
from ansible_collections.pyswiftops.fleet.plugins.modules.preflight import (
    ARGUMENTS,
    DOCUMENTATION,
)

from pyswiftops.preflight.asked import request

from .healthy import asked, fleet


def shipped(request: dict[str, Any]) -> dict[str, Any]:
    """What a bare Python tells."""
    sources = [
        [name.removesuffix(".__init__"), (UTILS / f"{name.replace('.', '/')}.py").read_text()]
        for name in SOURCES
    ]
    payload = {"sources": sources, "request": request}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", START],
        input=json.dumps(payload),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)["facts"]
    return facts


def test_a_bare_python_looks_with_what_is_shipped(tmp_path: Path) -> None:
    wanted = request(asked(fleet(1, device="cpu", root=str(tmp_path))), "token")
    own = wanted["nodes"]["node-1"]
    own.update(address="127.0.0.1", python=sys.executable)
    facts = shipped({"node": "node-1", "request": wanted})
    broken = {name for name, told in facts.items() if told and "error" in told}
    assert not {name for name in broken if facts[name]["error"]} - {"kernel_log"}
    assert facts["shm"]["size"] > 0


def test_a_host_below_containers_tells_what_they_cannot_see() -> None:
    facts = shipped({"node": "host-1", "request": {"device": "cpu", "nodes": {}}, "host": True})
    assert set(facts) == {"gpus", "kernel_log", "services"}
    assert facts["services"]["engine"]["cgroup_version"] in {1, 2}


def test_all_of_the_node_side_is_shipped() -> None:
    there = {f"preflight.{path.stem}" for path in (UTILS / "preflight").glob("*.py")}
    assert there == {name for name in SOURCES if name.startswith("preflight.")}


def test_the_documentation_names_the_options() -> None:
    for name in ARGUMENTS:
        assert f"  {name}:\n" in DOCUMENTATION
