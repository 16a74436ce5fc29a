"""From bare SSH to a fine-tuned, deployed model with ms-swift and Megatron.

The public API is :class:`Fleet`, :class:`RunSpec`, :class:`Client` and what they return.
It is loaded on first use, so that the helpers which run on nodes
(``python -m pyswiftops.cpu_backend``, ``python -m pyswiftops.data.lengths``) stay light:
nodes carry this package without the controller's dependencies.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyswiftops.client import Client, RunResult
    from pyswiftops.errors import SwiftOpsError
    from pyswiftops.pipeline import Event
    from pyswiftops.planner.plan import Plan
    from pyswiftops.specs.fleet import Fleet
    from pyswiftops.specs.run import RunSpec

__version__ = "0.1.0"

_HOMES = {
    "Client": "pyswiftops.client",
    "Event": "pyswiftops.pipeline",
    "Fleet": "pyswiftops.specs.fleet",
    "Plan": "pyswiftops.planner.plan",
    "RunResult": "pyswiftops.client",
    "RunSpec": "pyswiftops.specs.run",
    "SwiftOpsError": "pyswiftops.errors",
}
__all__ = ["Client", "Event", "Fleet", "Plan", "RunResult", "RunSpec", "SwiftOpsError"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pyswiftops' has no attribute {name!r}")
