"""Every error this package raises: one base class, one class a cause.

A message says what was expected, what was found, where, and the remedy. Libraries raise;
only ``cli/main.py`` turns an error into an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERNAL = 70


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be.

    Attributes:
        expected: What would have been right.
        found: What is there instead.
        where: File, line, node or flag it was found at.
        remedy: What the user can do, best as a command.
    """

    expected: str
    found: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"expected: {_shown(self.expected)}\n   found: {_shown(self.found)}\n"
            f"   where: {_shown(self.where)}\n  remedy: {_shown(self.remedy)}"
        )


def _shown(text: str) -> str:
    """The text as a terminal may have it: what is no character of a line is escaped."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


class SwiftOpsError(Exception):
    """Base of all errors of this package; ``exit_code`` is what the CLI exits with."""

    exit_code: ClassVar[int] = EXIT_FAILED


class BadInputError(SwiftOpsError):
    """The user's input cannot be used; nothing was changed.

    Attributes:
        findings: Everything that is wrong, not only the first.
    """

    exit_code: ClassVar[int] = EXIT_BAD_INPUT

    def __init__(self, findings: Finding | Iterable[Finding]) -> None:
        self.findings = (findings,) if isinstance(findings, Finding) else tuple(findings)
        super().__init__("\n\n".join(str(finding) for finding in self.findings))


class FleetError(BadInputError):
    """The fleet file cannot be used."""


class RunSpecError(BadInputError):
    """The run file cannot be used."""


class MatrixError(BadInputError):
    """The release line is unknown, or its row is malformed."""


class UnsolvableError(BadInputError):
    """No release line meets all demands.

    Attributes:
        gives: The smallest sets of demands without which one does; a finding tells of each.
    """

    def __init__(self, findings: Iterable[Finding], gives: Iterable[tuple[str, ...]]) -> None:
        self.gives = tuple(gives)
        super().__init__(findings)


class CollectionNotFoundError(SwiftOpsError):
    """The Ansible collection ``pyswiftops.fleet`` that belongs to this package is missing."""


class RunNotFoundError(BadInputError):
    """No such run in the runs folder."""


class RunConflictError(BadInputError):
    """The run id is taken by a run of another spec or fleet."""


class PreflightError(BadInputError):
    """Something stands in a launch's way; nothing was started."""


class RunStoppedError(SwiftOpsError):
    """The run was asked to stop; what it had started is stopped."""


class StageFailedError(SwiftOpsError):
    """A stage failed on the fleet.

    Attributes:
        stage: The stage's name.
        node: The node that failed first, or "" where none can be named.
        detail: Why, with the last lines of the first failing rank's log and its path.
    """

    def __init__(self, stage: str, node: str, detail: str, *, kept: str = "") -> None:
        self.stage, self.node, self.detail = stage, node, detail
        place = f" on {node}" if node else ""
        ending = f"\n{kept}" if kept else ""
        super().__init__(f"stage {stage} failed{place}: {detail}{ending}")


class ProvisionError(SwiftOpsError):
    """A machine could not be made ready, or not be taken down; the others were.

    Attributes:
        failures: machine -> the first thing that failed there.
        changed: machine -> how many tasks changed it.
    """

    def __init__(self, failures: Mapping[str, str], changed: Mapping[str, int]) -> None:
        self.failures, self.changed = dict(failures), dict(changed)
        lines = [f"{name}: {sentence}" for name, sentence in self.failures.items()]
        fine = [name for name in self.changed if name not in self.failures]
        if fine:
            lines.append(f"done on {', '.join(fine)}")
        super().__init__("\n".join([*lines, "run the same again once that is mended"]))


class WheelhouseError(SwiftOpsError):
    """pip could not bring all wheels; what it brought is kept."""
