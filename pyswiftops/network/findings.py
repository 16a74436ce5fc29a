"""What is not as it should be, how bad that is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pyswiftops.errors import Finding


class Severity(StrEnum):
    """How bad a finding is."""

    BLOCK = "block"
    WARN = "warn"
    NOTE = "note"


@dataclass(frozen=True)
class Remark:
    """A finding about the fleet's network.

    Attributes:
        code: Its name, which does not change.
        severity: ``block``: training cannot work so; ``warn``: it will be slow or may hang;
            ``note``: worth knowing.
        finding: Expected, found, where, remedy.
    """

    code: str
    severity: Severity
    finding: Finding


def remark(  # noqa: PLR0917 the four of a finding, in its order
    code: str, severity: Severity, expected: str, found: str, where: str, remedy: str
) -> Remark:
    """A remark in one call."""
    return Remark(code, severity, Finding(expected, found, where, remedy))
