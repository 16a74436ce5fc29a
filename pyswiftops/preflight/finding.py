"""One thing that was found before a launch, and how bad it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pyswiftops.errors import Finding
from pyswiftops.specs.preflight import Check

Facts = Mapping[str, Any]
"""What the module ``preflight`` told of one node, by subject."""
Fleetwide = Mapping[str, Facts]
"""node -> its facts; nodes that did not answer are not in it."""


class Severity(StrEnum):
    """How bad a finding is."""

    BLOCK = "block"
    WARN = "warn"
    NOTE = "note"


class Fix(StrEnum):
    """What ``--fix`` may do by itself."""

    STOP_JOB = "stop_job"
    HOLD_UPGRADES = "hold_upgrades"


@dataclass(frozen=True)
class Found:
    """One finding.

    Attributes:
        check: Which check found it.
        severity: How bad it is.
        node: Where; "" where it is about the fleet.
        expected: What would have been right.
        found: What is there instead.
        remedy: What to do, best as a command.
        fix: What ``--fix`` may do of it, or None.
        about: What the fix needs to know, such as the run and the job to stop.
    """

    check: Check
    severity: Severity
    node: str
    expected: str
    found: str
    remedy: str
    fix: Fix | None = None
    about: tuple[str, ...] = ()

    def as_finding(self) -> Finding:
        """As errors tell it."""
        where = f"{self.node or 'the fleet'} ({self.check.value})"
        return Finding(self.expected, self.found, where, self.remedy)

    def event(self) -> dict[str, Any]:
        """As a run's events tell of it."""
        detail = f"expected {self.expected}; found {self.found}; remedy: {self.remedy}"
        return {**self.to_dict(), "detail": detail}

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def listed(names: list[str] | tuple[str, ...], most: int = 6) -> str:
    """Names for people; of many the first ones."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
