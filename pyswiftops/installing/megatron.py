"""Which source trees a release line wants beside it, and the variables that name them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pyswiftops.matrix import row

NAMES = ("Megatron-LM", "Pai-Megatron-Patch")
_HEAD = "# Made by pyswiftops (role megatron_source); changes are lost.\n"


def megatron_checkouts(line: str, settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """The source trees of a line; none where Megatron comes from pip.

    Args:
        line: The release line.
        settings: ``folder`` that they lie in; ``repository``, ``archive``, ``commit`` and, of line
            2.6's second tree, ``patch_repository``, ``patch_archive``: empty for the row's.

    Returns:
        For each: ``name``, ``variable``, ``path``, ``repository``, ``archive``, ``branch``,
        ``commit``.
    """
    source = row(line).megatron_source
    if source.kind != "git":
        return []
    trees = [(settings, "", source.repository, source.branch, source.commit)]
    if source.patch_repository:
        trees.append((settings, "patch_", source.patch_repository, None, source.patch_commit))
    found = []
    for (given, prefix, repository, branch, commit), name, variable in zip(
        trees, NAMES, source.environment, strict=False
    ):
        asked = given.get("commit", "") if not prefix else ""
        found.append(
            {
                "name": name,
                "variable": variable,
                "path": f"{str(given['folder']).rstrip('/')}/{name}",
                "repository": given.get(f"{prefix}repository") or repository or "",
                "archive": given.get(f"{prefix}archive") or "",
                "branch": branch or "",
                "commit": asked or commit or "",
            }
        )
    return found


def megatron_profile(checkouts: Sequence[Mapping[str, str]]) -> str:
    """A file for login shells that exports where the source trees are."""
    lines = [f"export {item['variable']}={shlex.quote(item['path'])}\n" for item in checkouts]
    return _HEAD + "".join(lines)
