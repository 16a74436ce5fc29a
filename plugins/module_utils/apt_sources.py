# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Where a host's apt gets its packages: both styles of sources, read.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_FIELD = re.compile(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", re.MULTILINE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


class Source(NamedTuple):
    """One place of binary packages."""

    uri: str
    suite: str
    components: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(["deb", self.uri, self.suite, *self.components])


def without_login(text: str) -> str:
    """The text without the names and passwords of its URIs."""
    return _LOGIN.sub("", text)


def codename(path: Path = Path("/etc/os-release")) -> str:
    """The release's name ("bookworm"), or "" where the host does not say."""
    found = re.search(
        r"^VERSION_CODENAME=\"?([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return found.group(1) if found else ""


def read_sources(folder: Path = Path("/etc/apt")) -> list[Source]:
    """All sources that are switched on, in the order that apt reads them."""
    found: list[Source] = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix in (".list", ".sources"):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += _stanzas(text) if path.suffix == ".sources" else _lines(text)
    return found


def _lines(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if words[:1] == ["deb"] and words[2:]:
            found.append(Source(words[1], words[2], tuple(words[3:])))
    return found


def _stanzas(text: str) -> list[Source]:
    found = []
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", bare):
        fields = {
            key.lower(): value.split()
            for key, value in re.findall(
                r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE
            )
        }
        if fields.get("enabled", ["yes"])[0].lower() in ("no", "false", "0"):
            continue
        if "deb" in fields.get("types", []):
            found += [
                Source(uri, suite, tuple(fields.get("components", [])))
                for uri in fields.get("uris", [])
                for suite in fields.get("suites", [])
            ]
    return found
