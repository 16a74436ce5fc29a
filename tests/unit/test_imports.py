"""Each layer imports only layers to its left, and libraries neither print nor exit."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path

LAYERS = (
    ("errors",),
    ("specs", "states", "events", "migrations"),
    ("paths", "content", "explain", "tokens", "redact"),
    ("matrix", "hardware"),
    ("forecast", "installed", "wheelhouse", "flag_walk"),
    ("stages", "planner", "data", "checkpoints", "settings", "network", "installing", "fabric"),
    ("preflight",),
    ("filters", "translate", "solver"),
    ("guard", "private", "leftovers"),
    ("process",),
    ("runner", "store"),
    ("messages",),
    ("notify",),
    ("results", "recorded", "local_jobs"),
    ("release_line",),
    ("ahead", "continuing", "pipeline", "nodes", "provision"),
    (
        "fleet_network",
        "joblogs",
        "passport",
        "checkpoints.adopted",
        "checkpoints.moving",
        "checkpoints.usage",
        "checkpoints.shelf",
        "preflight.playing",
        "fabric.checking",
    ),
    ("runs", "preflight.launching"),
    ("client", "doctor"),
    ("demo", "rehearsal"),
    ("cli",),
)
APART = ("cpu_backend",)  # stands alone: runs inside training processes
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def layer_of(parts: Sequence[str]) -> str:
    """The layer of a module below pyswiftops: of its package, unless it has one of its own."""
    own = ".".join(parts[:2])
    return own if own in RANK else parts[0]


@cache
def modules(checkout: Path) -> list[tuple[str, Path, ast.Module]]:
    found = []
    package = checkout / "pyswiftops"
    for path in sorted(package.rglob("*.py")):
        layer = layer_of(path.relative_to(package).with_suffix("").parts)
        if layer != "__init__":
            found.append((layer, path, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree: ast.Module) -> set[str]:
    """Layers of pyswiftops that a module imports, wherever in it."""
    names = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.ImportFrom) and (item.module or "").startswith("pyswiftops"):
            inside = (item.module or "").split(".")[1:]
            names |= {layer_of([*inside, alias.name]) for alias in item.names}
        elif isinstance(item, ast.Import):
            parts = [alias.name.split(".") for alias in item.names]
            names |= {layer_of(part[1:]) for part in parts if part[0] == "pyswiftops" and part[1:]}
    return names - {"__version__"}


def test_imports_point_to_the_left(checkout: Path) -> None:
    for layer, path, tree in modules(checkout):
        for other in imported(tree):
            if layer in APART:
                assert other in {layer, "errors"}, f"{path} imports {other}"
            else:
                assert RANK[other] <= RANK[layer], f"{path} imports {other}"


def test_every_layer_has_a_place(checkout: Path) -> None:
    assert {layer for layer, _, _ in modules(checkout)} <= set(RANK) | set(APART)


def test_only_the_command_line_prints_and_exits(checkout: Path) -> None:
    for layer, path, tree in modules(checkout):
        if layer == "cli":
            continue
        runs_as_program = path.name in {
            "__main__.py",
            "companions.py",
            "fetch.py",
            "lengths.py",
            "measuring.py",
            "proof.py",
            "receive.py",
        }
        for item in ast.walk(tree):
            if isinstance(item, ast.Call):
                called = ast.unparse(item.func)
                assert called != "print", path
                assert called != "sys.exit" or runs_as_program, path


def test_collection_modules_import_only_module_utils(checkout: Path) -> None:
    for folder in ("modules", "module_utils"):
        for path in (checkout / "plugins" / folder).rglob("*.py"):
            assert not imported(ast.parse(path.read_text(encoding="utf-8"))), path


def test_no_module_is_too_large(checkout: Path) -> None:
    for folder in ("pyswiftops", "plugins"):
        for path in (checkout / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 450, path
