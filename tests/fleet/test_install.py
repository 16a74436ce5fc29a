"""Real installs on container nodes, and Megatron's source tree over the fleet's own ssh."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.installing.packages import BUILDER, batches
from pyswiftops.matrix import row
from pyswiftops.wheelhouse import make_wheelhouse

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.container_nodes import IMAGE, Nodes, container_nodes, image  # noqa: E402 path above

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1800)]
INSTALLER = "swiftops-test-install:1"
DOCKERFILE = f"""\
FROM {IMAGE}
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends git python3-venv
"""
LINES = ("4.6", "4.3", "3.12")
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


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheelhouses that nodes see; kept between runs where one is named."""
    return Path(os.environ.get("SWIFTOPS_TEST_WHEELS") or tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def bring(wheels: Path) -> Callable[[str], None]:
    """Have pip fill the wheelhouse of a line."""

    def fill(line: str) -> None:
        found = batches(row(line), PYTHON, PINS[line])
        wanted = tuple(dict.fromkeys([*itertools.chain.from_iterable(found), BUILDER]))
        make_wheelhouse(wheels / line, line=line, requirements=wanted)

    return functools.cache(fill)


@pytest.fixture(scope="module")
def nodes(wheels: Path) -> Iterator[Nodes]:
    image()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        words = ["docker", "build", "--quiet", "--network", "host", "--tag", INSTALLER, folder]
        subprocess.run(words, check=True, capture_output=True, env=environment)
    mount = f"{wheels}:/srv/wheels:ro"
    name = f"install-{os.getpid()}"
    with container_nodes(2, name, "172.30.47.0/24", of=INSTALLER, volumes=[mount]) as made:
        play(made, "settings")
        yield made


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


@pytest.mark.long
@pytest.mark.parametrize("line", LINES)
def test_a_line_is_installed_whole_proven_and_left_alone(
    nodes: Nodes, bring: Callable[[str], None], line: str
) -> None:
    bring(line)
    settings = given(line, megatron_source_repository="ssh://node-1/srv/git/Megatron-LM")
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


# Megatron's source tree.

TREE = """
- name: Only the tree
  hosts: swiftops_nodes
  gather_facts: false
  roles:
    - role: pyswiftops.fleet.megatron_source
"""
MIRROR = "ssh://node-1/srv/git/Megatron-LM"


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


# Environments.


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
    assert "/opt/none" not in nodes.inside("node-2", "sh", "-c", "ls -d /opt/*")


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


# Extras.

EXTRAS = """
- name: Only extras
  hosts: swiftops_nodes
  gather_facts: false
  roles:
    - role: pyswiftops.fleet.swift_extras
"""


@pytest.fixture
def extras(tmp_path: Path) -> str:
    path = tmp_path / "extras.yml"
    path.write_text(EXTRAS, encoding="utf-8")
    return str(path)


@pytest.mark.long
def test_extras_are_installed_beside_the_line(
    nodes: Nodes, wheels: Path, bring: Callable[[str], None], extras: str
) -> None:
    bring("4.6")
    wanted = ["pybind11", "nvitop", "icecream", "py-spy", "qwen_vl_utils"]
    bring = [sys.executable, "-m", "pip", "download", "--quiet", "-d", str(wheels / "extras")]
    bring += ["--find-links", str(wheels / "4.6" / "packages"), *wanted]
    subprocess.run(bring, check=True, capture_output=True)
    play(nodes, "install", **given("4.6"))
    python = "/opt/swift-4.6/bin/python"
    settings = {
        "swiftops_line": "4.6",
        "swift_extras_python": python,
        "swift_extras_wanted": [*wanted, "apex"],
        "swift_extras_find_links": ["/srv/wheels/extras", "/srv/wheels/4.6/packages"],
        "swift_extras_no_index": True,
    }
    before = versions(nodes, "/opt/swift-4.6")
    rehearsed = words(play(nodes, extras, check=True, **settings))
    assert f"{python} -m pip install" in rehearsed
    assert "--gradient_accumulation_fusion false" in rehearsed
    assert versions(nodes, "/opt/swift-4.6") == before
    assert changed(play(nodes, extras, **settings)) == 1
    after = versions(nodes, "/opt/swift-4.6")
    assert {name.replace("_", "-") for name in wanted} <= set(after)
    kept = ("torch", "transformers", "peft", "trl", "megatron-core", "ms-swift")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert changed(play(nodes, extras, **settings)) == 0
    play(nodes, "install", **given("4.6"))


def test_without_a_python_extras_are_refused_and_yet_shown(nodes: Nodes, extras: str) -> None:
    settings = {
        "swiftops_line": "3.10",
        "swift_extras_python": "/opt/not-yet/bin/python",
        "swift_extras_wanted": ["swanlab", "transformer_engine"],
    }
    said = words(play(nodes, extras, fails=True, **settings))
    assert "expected: a Python with torch; found: no file" in said
    shown = words(play(nodes, extras, check=True, **settings))
    assert "/opt/not-yet/bin/python -m pip install" in shown
    assert "--break-system-packages" not in shown
    assert changed(shown) == 1


@pytest.mark.long
def test_what_needs_cuda_is_shown_and_refused_here(
    nodes: Nodes, bring: Callable[[str], None], extras: str
) -> None:
    bring("4.6")
    play(nodes, "install", **given("4.6"))
    settings = {
        "swiftops_line": "4.3",
        "swift_extras_python": "/opt/swift-4.6/bin/python",
        "swift_extras_wanted": ["flash-attn", "transformer_engine"],
    }
    said = words(play(nodes, extras, fails=True, **settings))
    assert "expected: torch with CUDA for flash-attn" in said
    assert "found: torch 2.13.0+cpu without CUDA" in said
    facts = {"torch": "2.8.0", "cuda": "12.8", "cxx11abi": True, "python": "3.12", "nvcc": "12.8"}
    shown = words(
        play(nodes, extras, swift_extras_render_only=True, swift_extras_facts=facts, **settings)
    )
    wheel = "flash_attn-2.8.3%2Bcu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    assert f"/v2.8.3/{wheel}" in shown
    assert "MAX_JOBS=4" in shown
    assert "--no-build-isolation 'transformer_engine[pytorch]==2.16.*'" in shown
