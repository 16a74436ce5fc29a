"""A release line in an environment of a container node: whole, editable, or refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.container_nodes import Nodes
from pyswiftops.matrix import row

from .lab import AUTHOR, MIRROR, changed, given, play, serve, versions, words

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(1800)]
LINES = ("4.6", "4.3", "3.12")


@pytest.mark.long
@pytest.mark.parametrize("line", LINES)
def test_a_line_is_installed_whole_proven_and_left_alone(
    nodes: Nodes, bring: Callable[[str], None], line: str
) -> None:
    bring(line)
    settings = given(line, megatron_source_repository=MIRROR)
    if row(line).megatron_source.kind == "git":
        serve(nodes)
    rehearsed = words(play(nodes, "install", check=True, **settings))
    assert f"/opt/swift-{line}/bin/python -m pip install" in rehearsed
    assert f"ms-swift=={row(line).release}" in rehearsed
    assert "--break-system-packages" not in rehearsed
    assert nodes.inside("node-2", "sh", "-c", f"ls -d /opt/swift-{line} || true") == ""
    assert changed(play(nodes, "install", **settings)) > 0
    there = versions(nodes, f"/opt/swift-{line}")
    assert there["ms-swift"] == row(line).release
    assert there["torch"].startswith("2.13.0")
    for name, package in row(line).packages.items():
        if package.pin and name in there:
            assert there[name].partition("+")[0] == package.pin
    assert changed(play(nodes, "install", **settings)) == 0
    as_it_is = {
        "swift_install_environment": "system",
        "swift_install_base_python": f"/opt/swift-{line}/bin/python",
        "swift_install_path": "/opt/nowhere",
    }
    assert changed(play(nodes, "install", **{**settings, **as_it_is})) == 0


@pytest.mark.long
def test_a_git_branch_is_installed_editable(
    nodes: Nodes, bring: Callable[[str], None], tmp_path: Path
) -> None:
    """The release's own source, in a repository on the first node."""
    bring("4.6")
    release = f"ms-swift=={row('4.6').release}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    whole = [*pip, "--no-binary", "ms-swift", "--no-build-isolation", "-d", str(tmp_path), release]
    subprocess.run(whole, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    subprocess.run(
        ["docker", "cp", str(archive), f"swiftops-{nodes.fleet.name}-node-1:/tmp/swift.tar.gz"],
        check=True,
    )
    script = f"""
        set -e
        {AUTHOR}
        mkdir -p /srv/git/ms-swift && cd /srv/git/ms-swift
        tar -xzf /tmp/swift.tar.gz --strip-components=1
        git init -q -b main . && git checkout -q -b mine && git add -A && git commit -q -m mine
    """
    nodes.inside("node-1", "sh", "-c", script)
    settings = given(
        "4.6",
        swift_install_path="/opt/editable",
        swift_install_repository="ssh://node-1/srv/git/ms-swift",
        swift_install_branch="mine",
    )
    assert changed(play(nodes, "install", **settings)) > 0
    where = "import importlib.util as u; print(u.find_spec('swift').origin)"
    python = "/opt/editable/bin/python"
    assert nodes.inside("node-2", python, "-c", where) == "/opt/ms-swift/swift/__init__.py"
    assert changed(play(nodes, "install", **settings)) == 0
    said = words(play(nodes, "install", fails=True, **{**settings, "swift_install_branch": "your"}))
    assert "expected: branch your; found: branches" in said


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"swift_install_pins": {"torch": "2.7.0"}}, "expected: torch >=2.8 for ms-swift 4.6"),
        ({"swift_install_base_python": "/usr/bin/python9"}, "facts of a Python"),
        ({"swift_install_environment": "conda"}, "expected: micromamba, mamba or conda"),
        ({"swift_install_environment": "system"}, "expected: pip in /usr/bin/python3"),
        ({"swift_install_environment": "vent"}, "must be one of: venv, conda, system"),
        ({"swift_install_repository": "/srv/r"}, "expected: a branch or a commit of /srv/r"),
        ({"swiftops_line": "9.9"}, "found: 9.9"),
    ],
)
def test_what_cannot_be_installed_is_refused_before_anything_is_made(
    nodes: Nodes, wrong: dict[str, Any], found: str
) -> None:
    settings = {**given("4.6", swift_install_path="/opt/none"), **wrong}
    assert found in words(play(nodes, "install", fails=True, **settings))
    assert "/opt/none" not in nodes.inside("node-2", "sh", "-c", "ls -d /opt/* || true")


# A conda is in no registry that pip or apt reach: this plays one, with a venv behind it.
MICROMAMBA = """#!/bin/sh
case "$1" in
--version) echo 2.3.0 ;;
create)
    test "$*" = "create --yes --quiet --prefix $5 --channel=conda-forge --offline python=3.11 pip"
    exec /usr/bin/python3 -m venv "$5" ;;
*) exit 2 ;;
esac
"""
ONLY_TORCH = """
- name: An environment by a program that plays micromamba
  hosts: swiftops_nodes
  gather_facts: false
  tasks:
    - name: The environment
      ansible.builtin.include_role:
        name: pyswiftops.fleet.swift_install
        tasks_from: conda
"""


def test_conda_is_asked_for_an_environment_by_its_prefix(nodes: Nodes, tmp_path: Path) -> None:
    path = tmp_path / "conda.yml"
    path.write_text(ONLY_TORCH, encoding="utf-8")
    script = "cat > /usr/local/bin/micromamba && chmod +x /usr/local/bin/micromamba"
    name = f"swiftops-{nodes.fleet.name}-node-2"
    subprocess.run(
        ["docker", "exec", "-i", name, "sh", "-c", script],
        input=MICROMAMBA,
        text=True,
        check=True,
    )
    settings = {
        "swiftops_line": "4.6",
        "swift_install_environment": "conda",
        "swift_install_path": "/opt/by-conda",
        "swift_install_conda_offline": True,
    }
    assert changed(play(nodes, str(path), **settings)) == 1
    assert changed(play(nodes, str(path), **settings)) == 0
    nodes.inside("node-2", "rm", "/usr/local/bin/micromamba")
