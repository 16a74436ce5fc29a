"""The host's own apt sources, of both styles, and what of them a base image gets."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

PLUGINS = "ansible_collections.pyswiftops.fleet.plugins"
NEW_STYLE = """\
# comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs:
 http://me:secret@security.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/ubuntu noble main universe # comment
# deb http://off.example/ubuntu noble main
deb-src http://mirror.example/ubuntu noble main
deb http://other.example/tool stable main
"""


@pytest.fixture
def sources() -> Any:
    return importlib.import_module(f"{PLUGINS}.module_utils.apt_sources")


@pytest.fixture
def base() -> Any:
    return importlib.import_module(f"{PLUGINS}.modules.debian_base")


def write(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        path = folder / "sources.list" if name == "main" else folder / "sources.list.d" / name
        path.write_text(text, encoding="utf-8")
    return folder


def test_stanzas(sources: Any, tmp_path: Path) -> None:
    found = sources.read_sources(write(tmp_path, **{"debian.sources": NEW_STYLE}))
    assert [str(item) for item in found] == [
        "deb http://mirror.example/debian bookworm main contrib",
        "deb http://mirror.example/debian bookworm-updates main contrib",
        "deb http://me:secret@security.example/debian-security bookworm-security main",
    ]
    assert "secret" not in sources.without_login(str(found[-1]))


def test_lines(sources: Any, tmp_path: Path) -> None:
    folder = write(tmp_path, main=ONE_LINE, **{"kept.save": ONE_LINE})
    assert [str(item) for item in sources.read_sources(folder)] == [
        "deb http://mirror.example/ubuntu noble main universe",
        "deb http://other.example/tool stable main",
    ]


def test_codename(sources: Any, tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text('NAME="Debian"\nVERSION_CODENAME=bookworm\n', encoding="utf-8")
    assert sources.codename(path) == "bookworm"


def test_the_mirror_of_the_release_is_chosen(sources: Any, base: Any, tmp_path: Path) -> None:
    found = sources.read_sources(write(tmp_path, main=ONE_LINE, **{"d.sources": NEW_STYLE}))
    mirror, ours = base.choose(found, "bookworm", None)
    assert mirror == "http://mirror.example/debian"
    assert [item.suite for item in ours] == ["bookworm", "bookworm-updates", "bookworm-security"]
    with pytest.raises(base.BaseError, match="remedy: set image_bootstrap_mirror"):
        base.choose(found, "trixie", None)
    assert base.choose(found, "trixie", "http://m.example") == ("http://m.example", [])
