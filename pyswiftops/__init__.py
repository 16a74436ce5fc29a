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
    from pyswiftops.client import Client
    from pyswiftops.errors import (
        BadInputError,
        Finding,
        FleetError,
        RunConflictError,
        RunNotFoundError,
        RunSpecError,
        RunStoppedError,
        StageFailedError,
        SwiftOpsError,
    )
    from pyswiftops.events import Event, EventKind
    from pyswiftops.planner.plan import Plan
    from pyswiftops.results import CommandResult, JobStatus, LogLine, RunResult, RunSummary
    from pyswiftops.specs.fleet import Fleet
    from pyswiftops.specs.run import RunSpec
    from pyswiftops.states import StageState

__version__ = "0.1.0"

_HOMES = {
    "BadInputError": "pyswiftops.errors",
    "Client": "pyswiftops.client",
    "CommandResult": "pyswiftops.results",
    "Event": "pyswiftops.events",
    "EventKind": "pyswiftops.events",
    "Finding": "pyswiftops.errors",
    "Fleet": "pyswiftops.specs.fleet",
    "FleetError": "pyswiftops.errors",
    "JobStatus": "pyswiftops.results",
    "LogLine": "pyswiftops.results",
    "Plan": "pyswiftops.planner.plan",
    "RunConflictError": "pyswiftops.errors",
    "RunNotFoundError": "pyswiftops.errors",
    "RunResult": "pyswiftops.results",
    "RunSpec": "pyswiftops.specs.run",
    "RunSpecError": "pyswiftops.errors",
    "RunStoppedError": "pyswiftops.errors",
    "RunSummary": "pyswiftops.results",
    "StageFailedError": "pyswiftops.errors",
    "StageState": "pyswiftops.states",
    "SwiftOpsError": "pyswiftops.errors",
}
__all__ = [
    "BadInputError",
    "Client",
    "CommandResult",
    "Event",
    "EventKind",
    "Finding",
    "Fleet",
    "FleetError",
    "JobStatus",
    "LogLine",
    "Plan",
    "RunConflictError",
    "RunNotFoundError",
    "RunResult",
    "RunSpec",
    "RunSpecError",
    "RunStoppedError",
    "RunSummary",
    "StageFailedError",
    "StageState",
    "SwiftOpsError",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pyswiftops' has no attribute {name!r}")
