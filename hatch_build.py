"""Build hook: the wheel carries the Ansible collection; an editable install reads the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COLLECTION = "ansible_collections/pyswiftops/fleet"
CARRIED = (
    "galaxy.yml",
    "inventory",
    "LICENSE",
    "meta",
    "playbooks",
    "plugins",
    "README.md",
    "roles",
)


class CollectionHook(BuildHookInterface[Any]):
    """Places the collection beside the package, where Ansible finds it on ``sys.path``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the collection's files, but for editable installs."""
        if version == "editable":
            return
        root = Path(self.root)
        for name in CARRIED:
            for path in _files(root / name):
                place = f"{COLLECTION}/{path.relative_to(root).as_posix()}"
                build_data["force_include"][str(path)] = place


def _files(path: Path) -> list[Path]:
    """A file, or all files below a folder but for caches."""
    if path.is_file():
        return [path]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]
