"""Megatron's source tree on a container node, from a mirror over the fleet's own ssh."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from bench.container_nodes import Nodes
from pyswiftops.matrix import row

from .lab import BRANCHES, MIRROR, changed, play, serve, words

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(1800)]
TREE = """
- name: Only the tree
  hosts: swiftops_nodes
  gather_facts: false
  roles:
    - role: pyswiftops.fleet.megatron_source
"""


def tip(nodes: Nodes, branch: str) -> str:
    return nodes.inside("node-1", "git", "-C", "/srv/git/Megatron-LM", "rev-parse", branch)


def head(nodes: Nodes, folder: str) -> str:
    # Asked by another user than root: safe.directory lets him in.
    ask = f"git -C {folder}/Megatron-LM rev-parse HEAD"
    return nodes.inside("node-2", "su", "nobody", "-s", "/bin/sh", "-c", ask)


@pytest.fixture
def tree(nodes: Nodes, tmp_path: Path) -> str:
    """A playbook with the role alone, and its repository on the first node."""
    serve(nodes)
    path = tmp_path / "tree.yml"
    path.write_text(TREE, encoding="utf-8")
    return str(path)


def test_each_line_has_its_branch_from_a_mirror_over_the_mesh(nodes: Nodes, tree: str) -> None:
    folder = "/opt/megatron"
    for line in ("3.6", "3.9", "3.10", "3.12"):
        settings = {"swiftops_line": line, "megatron_source_repository": MIRROR}
        branch = row(line).megatron_source.branch
        assert branch in BRANCHES
        assert changed(play(nodes, tree, check=True, **settings)) > 0
        assert changed(play(nodes, tree, **settings)) > 0
        assert head(nodes, folder) == tip(nodes, branch)
        assert changed(play(nodes, tree, **settings)) == 0
    shown = nodes.inside("node-2", "bash", "-lc", "cat $MEGATRON_LM_PATH/megatron/core/*info.py")
    assert shown == "core_r0.15.0"
    assert changed(play(nodes, tree, swiftops_line="4.6")) == 1
    assert nodes.inside("node-2", "bash", "-lc", "echo -$MEGATRON_LM_PATH") == "-"
    assert changed(play(nodes, tree, swiftops_line="4.6")) == 0


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"megatron_source_repository": "ssh://node-1/srv/git/Old"}, "branches core_r0.12.0"),
        ({"megatron_source_commit": "core_r0.12.0"}, "expected: branch core_r0.15.0 at commit"),
        ({"megatron_source_commit": "6dbe4cf6"}, "no such commit"),
        ({"megatron_source_repository": "ssh://node-1/srv/git/None"}, "git clone to succeed"),
    ],
)
def test_a_wrong_branch_or_commit_is_refused(
    nodes: Nodes, tree: str, wrong: dict[str, str], found: str
) -> None:
    folder = "/opt/refused"
    settings = {"megatron_source_repository": MIRROR, "megatron_source_folder": folder, **wrong}
    if wrong.get("megatron_source_commit") in BRANCHES:
        other = tip(nodes, settings["megatron_source_commit"])
        settings["megatron_source_commit"] = other
    said = words(play(nodes, tree, fails=True, swiftops_line="3.12", **settings))
    assert found in said
    assert "core_r0.15.0" in said or "None" in said
    if len(settings.get("megatron_source_commit", "")) == 40:
        assert f"found: commit {settings['megatron_source_commit']}" in said
    assert nodes.inside("node-2", "sh", "-c", f"ls -A {folder} 2> /dev/null || true") == ""


def test_line_2_6_has_both_trees_from_archives_of_the_controller(
    nodes: Nodes, tree: str, tmp_path: Path
) -> None:
    source = row("2.6").megatron_source
    for name, commit in (("M", source.commit), ("P", source.patch_commit)):
        folder = tmp_path / name
        folder.mkdir()
        record = {"commit": f"{commit}{'0' * 32}", "branch": ""}
        (folder / ".swiftops-source.json").write_text(json.dumps(record), encoding="utf-8")
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as file:
            file.add(folder, arcname=name)
    settings = {
        "swiftops_line": "2.6",
        "megatron_source_folder": "/opt/two",
        "megatron_source_archive": str(tmp_path / "M.tar.gz"),
        "megatron_source_patch_archive": str(tmp_path / "P.tar.gz"),
    }
    play(nodes, tree, check=True, **settings)
    assert changed(play(nodes, tree, **settings)) > 0
    asked = "ls -d $MEGATRON_LM_PATH $PAI_MEGATRON_PATCH_PATH"
    found = nodes.inside("node-2", "bash", "-lc", asked).split()
    assert found == ["/opt/two/Megatron-LM", "/opt/two/Pai-Megatron-Patch"]
    assert changed(play(nodes, tree, **settings)) == 0
    settings["megatron_source_archive"] = str(tmp_path / "P.tar.gz")
    said = words(play(nodes, tree, fails=True, **settings))
    assert f"expected: commit {source.commit}; found: commit {source.patch_commit}" in said
