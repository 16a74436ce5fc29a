# ruff: noqa: INP001 -- a folder on sys.path, and not a package
"""Switches the pyswiftops CPU backend on at the first ``import torch`` of a process.

Python imports this file at start-up because the launcher put its folder on PYTHONPATH.
It does nothing without SWIFTOPS_CPU_BACKEND=1, and stays cheap with it: processes that
never import torch never import pyswiftops.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve().parent


class _TorchLoader(Loader):
    """Loads torch with its own loader, then installs the CPU backend on it."""

    def __init__(self, inner: Loader) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        module.__loader__ = self.inner
        try:
            from pyswiftops.cpu_backend import hook  # noqa: PLC0415 -- only with torch
        except ImportError as error:
            raise RuntimeError(
                "SWIFTOPS_CPU_BACKEND=1 is set, but the package pyswiftops cannot be imported "
                f"by {sys.executable} ({error}); install pyswiftops into that Python "
                "environment, or unset SWIFTOPS_CPU_BACKEND"
            ) from error
        hook.before_torch()
        self.inner.exec_module(module)
        hook.after_torch()


class _TorchFinder(MetaPathFinder):
    """Answers for the module ``torch`` alone; everybody else is asked where it lies."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torch":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _TorchLoader(spec.loader)
                return spec
        return None


def _run_shadowed_sitecustomize() -> None:
    """Run the sitecustomize that would have run had this one not come first."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("SWIFTOPS_CPU_BACKEND") == "1":
    sys.meta_path.insert(0, _TorchFinder())
_run_shadowed_sitecustomize()
