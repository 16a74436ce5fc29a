"""Real installs on container nodes, and Megatron's source tree over the fleet's own ssh."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.installing.packages import batches
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
BRANCHES = ("core_r0.12.0", "core_r0.13.0", "core_r0.14.0", "core_r0.15.0")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheelhouse of each line, brought by pip; kept between runs in a folder that is named."""
    folder = Path(os.environ.get("SWIFTOPS_TEST_WHEELS") or tmp_path_factory.mktemp("wheels"))
    for line in LINES:
        found = batches(row(line), PYTHON, PINS[line])
        wanted = tuple(dict.fromkeys(itertools.chain.from_iterable(found)))
        make_wheelhouse(folder / line, line=line, requirements=wanted)
    return folder


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
        [program, f"pyswiftops.fleet.{playbook}", *words],
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


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_installed_whole_proven_and_left_alone(nodes: Nodes, line: str) -> None:
    settings = given(line, megatron_source_repository="ssh://node-1/srv/git/Megatron-LM")
    if row(line).megatron_source.kind == "git":
        serve(nodes)
    rehearsed = words(play(nodes, "install", check=True, **settings))
    assert f"/opt/swift-{line}/bin/python -m pip install" in rehearsed
    assert f"ms-swift=={row(line).release}" in rehearsed
    assert nodes.inside("node-2", "sh", "-c", f"ls -d /opt/swift-{line} || true") == ""
    assert changed(play(nodes, "install", **settings)) > 0
    there = versions(nodes, f"/opt/swift-{line}")
    assert there["ms-swift"] == row(line).release
    assert there["torch"].startswith("2.13.0")
    for name, package in row(line).packages.items():
        if package.pin and name in there:
            assert there[name].partition("+")[0] == package.pin
    assert changed(play(nodes, "install", **settings)) == 0


# Megatron's source tree.


def serve(nodes: Nodes) -> None:
    """A bare repository with a branch for each release of Megatron, on the first node."""
    script = f"""
        test -d /srv/git/Megatron-LM && exit 0
        set -e
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main /tmp/work && cd /tmp/work
        mkdir -p megatron/core && echo > megatron/core/__init__.py
        git add . && git commit -q -m main
        for branch in {" ".join(BRANCHES)}; do
            git checkout -q -b $branch main
            echo "$branch" > megatron/core/package_info.py
            git add . && git commit -q -m "$branch"
        done
        git clone -q --bare /tmp/work /srv/git/Megatron-LM
    """
    nodes.inside("node-1", "sh", "-c", script)


def tip(nodes: Nodes, branch: str) -> str:
    return nodes.inside("node-1", "git", "-C", "/srv/git/Megatron-LM", "rev-parse", branch)


def head(nodes: Nodes) -> str:
    # Of another user than root, who is let in by safe.directory only.
    ask = "git -C /opt/megatron/Megatron-LM rev-parse HEAD"
    return nodes.inside("node-2", "su", "nobody", "-s", "/bin/sh", "-c", ask)
