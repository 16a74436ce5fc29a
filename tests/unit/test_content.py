"""Where the collection is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyswiftops import content
from pyswiftops.errors import CollectionNotFoundError


def test_a_checkout_is_the_collection_itself(checkout: Path) -> None:
    assert content.collection() == checkout


def test_edits_of_a_checkout_are_seen_through_the_link(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = content.collections_path()
    assert base.is_relative_to(tmp_path)
    link = base / "ansible_collections" / "pyswiftops" / "fleet"
    assert (link / "galaxy.yml").samefile(checkout / "galaxy.yml")
    assert content.collections_path() == base


def test_a_link_to_somewhere_else_is_put_right(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    link = content.collections_path() / "ansible_collections" / "pyswiftops" / "fleet"
    link.unlink()
    link.symlink_to(tmp_path)
    content.collections_path()
    assert link.resolve() == checkout


def test_an_installed_package_uses_the_collection_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_PACKAGE", tmp_path / "pyswiftops")
    with pytest.raises(CollectionNotFoundError, match="reinstall the package"):
        content.collection()
    installed = tmp_path / "ansible_collections" / "pyswiftops" / "fleet"
    (installed / "roles").mkdir(parents=True)
    assert content.collection() == installed
    assert content.collections_path() == tmp_path
