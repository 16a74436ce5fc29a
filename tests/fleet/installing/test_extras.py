"""Extras beside a release line on a container node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.container_nodes import Nodes

from .lab import changed, given, play, versions, words

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(1800)]
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
    download = [sys.executable, "-m", "pip", "download", "--quiet", "-d", str(wheels / "extras")]
    download += ["--find-links", str(wheels / "4.6" / "packages"), *wanted]
    subprocess.run(download, check=True, capture_output=True)
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
