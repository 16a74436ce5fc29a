"""The public API is listed in one place, typed, and each part of it is type-checked."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import pyswiftops
from pyswiftops import Client
from pyswiftops.checkpoints.shelf import Checkpoints


def names_in(path: Path) -> tuple[set[str], set[str]]:
    """Names that a file imports from the package, and attributes that it uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name
        for item in ast.walk(tree)
        if isinstance(item, ast.ImportFrom) and item.module == "pyswiftops"
        for alias in item.names
    }
    used = {item.attr for item in ast.walk(tree) if isinstance(item, ast.Attribute)}
    return imported, used


def test_every_public_name_is_there_and_type_checked(checkout: Path) -> None:
    imported, _ = names_in(checkout / "tests" / "typing" / "api.py")
    assert imported == set(pyswiftops.__all__)
    for name in pyswiftops.__all__:
        assert getattr(pyswiftops, name).__name__ == name
        assert getattr(pyswiftops, name).__doc__


@pytest.mark.parametrize("part", [Client, Checkpoints])
def test_every_method_of_the_client_is_type_checked(checkout: Path, part: type) -> None:
    _, used = names_in(checkout / "tests" / "typing" / "api.py")
    methods = {
        name
        for name, item in inspect.getmembers(part, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods <= used


def test_the_package_says_that_it_is_typed(checkout: Path) -> None:
    assert (checkout / "pyswiftops" / "py.typed").is_file()
    assert "tests/typing" in (checkout / "pyproject.toml").read_text(encoding="utf-8")
