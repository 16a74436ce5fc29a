"""Looks for a real Transformer Engine, without importing anything heavy."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import sys
from pathlib import Path

from pyswiftops.cpu_backend.errors import CpuBackendError

BOOTSTRAP = Path(__file__).resolve().parent / "bootstrap"
"""The folder that the launcher puts on ``PYTHONPATH``."""


def real_transformer_engine() -> str | None:
    """Where a real Transformer Engine is installed in this Python, or None."""
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != BOOTSTRAP]
    spec = importlib.machinery.PathFinder.find_spec("transformer_engine", elsewhere)
    if spec is not None:
        return spec.origin or str(next(iter(spec.submodule_search_locations or ()), "unknown"))
    found = importlib.metadata.distributions(name="transformer-engine", path=elsewhere)
    return next((str(item.locate_file("")) for item in found), None)


def refuse_real_transformer_engine() -> None:
    """Raise if the stand-ins would hide an installed Transformer Engine."""
    place = real_transformer_engine()
    if place is not None:
        raise CpuBackendError(
            "the CPU backend was asked for, but a real Transformer Engine is installed at "
            f"{place}, and plain-torch stand-ins must not hide it; set `device: gpu` in the "
            "fleet, or use a Python environment without transformer_engine"
        )
