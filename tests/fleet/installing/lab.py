"""Container nodes that things are installed on: playbooks, their words, and what a node has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.container_nodes import Nodes

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
# What a CPU can have: this torch, and the megatron-core of Python 3.11, for all lines.
PINS = {
    "4.6": {},
    "4.3": {"torch": "2.13.0", "megatron-core": "0.16.1"},
    "3.12": {"torch": "2.13.0"},
}
AUTHOR = (
    "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"
)
BRANCHES = ("core_r0.12.0", "core_r0.13.0", "core_r0.14.0", "core_r0.15.0")
MIRROR = "ssh://node-1/srv/git/Megatron-LM"


def play(
    nodes: Nodes, playbook: str, fails: bool = False, check: bool = False, **given: Any
) -> str:
    """Run a playbook on the second node, the settings on both; return what it printed."""
    program = str(Path(sys.executable).parent / "ansible-playbook")
    words = ["-i", str(nodes.inventory), "-e", json.dumps(given)]
    words += [] if playbook == "settings" else ["-l", "node-2"]
    words += ["--check"] if check else []
    done = subprocess.run(
        [program, playbook if "/" in playbook else f"pyswiftops.fleet.{playbook}", *words],
        check=False,
        capture_output=True,
        text=True,
        env=nodes.environment(),
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said[-6000:]
    return said


def changed(said: str) -> int:
    return sum(map(int, re.findall(r"changed=(\d+)", said)))


def words(said: str) -> str:
    """What was printed, with its lines joined, to look for a sentence."""
    return " ".join(said.replace("\\n", " ").split())


def given(line: str, **more: Any) -> dict[str, Any]:
    """The variables of a line, into an environment of its own, from its wheelhouse."""
    links = [f"/srv/wheels/{line}/packages"]
    return {
        "swiftops_line": line,
        "swift_install_path": f"/opt/swift-{line}",
        "swift_install_find_links": links,
        "swift_install_no_index": True,
        "swift_install_pins": PINS[line],
        **more,
    }


def versions(nodes: Nodes, path: str) -> dict[str, str]:
    told = nodes.inside("node-2", f"{path}/bin/python", "-m", "pip", "list", "--format=json")
    return {item["name"].lower().replace("_", "-"): item["version"] for item in json.loads(told)}


def serve(nodes: Nodes) -> None:
    """A bare repository with a branch for each release of Megatron, on the first node."""
    script = f"""
        test -d /srv/git/Megatron-LM && exit 0
        set -e
        {AUTHOR}
        git init -q -b main /tmp/work && cd /tmp/work
        mkdir -p megatron/core && echo > megatron/core/__init__.py
        git add . && git commit -q -m main
        for branch in {" ".join(BRANCHES)}; do
            git checkout -q -b $branch main
            echo "$branch" > megatron/core/package_info.py
            git add . && git commit -q -m "$branch"
        done
        git clone -q --bare /tmp/work /srv/git/Megatron-LM
        git clone -q --bare /tmp/work /srv/git/Old
        git -C /srv/git/Old branch -D core_r0.15.0 -q
    """
    nodes.inside("node-1", "sh", "-c", script)
