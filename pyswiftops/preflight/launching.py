"""The SDK's look at a fleet, by hand and before whatever a run launches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from pyswiftops.planner.plan import Plan
from pyswiftops.preflight import playing
from pyswiftops.preflight.finding import Found, Severity
from pyswiftops.preflight.report import Report
from pyswiftops.results import ALIVE, JobStatus
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.preflight import Check
from pyswiftops.specs.run import RunSpec

Look = Callable[[Plan], tuple[Found, ...]]
"""Looks at the nodes of a plan; returns what is to be warned of, and raises PreflightError."""


class LooksFirst(ABC):
    """The part of :class:`pyswiftops.Client` that looks whether nodes are fit for a launch."""

    on_output: Callable[[str], None] | None

    @abstractmethod
    def status(self, run_id: str, *, tail: int = 0, jobs: Iterable[str] = ()) -> list[JobStatus]:
        """See :meth:`pyswiftops.Client.status`."""

    def preflight(self, fleet: Fleet, spec: RunSpec | None = None, **options: Any) -> Report:
        """Look whether a fleet is fit before a launch; nothing is started.

        Args:
            fleet: The machines; spares too, where no run is given.
            spec: The run that is to be launched.
            options: ``only``, ``fix``, ``record``, ``rows``, as
                :class:`pyswiftops.preflight.playing.Options` says.

        Raises:
            BadInputError: there is no such check.
        """
        return playing.preflight(fleet, spec, playing.Options(**options), self.on_output)

    def _first_look(self, plan: Plan, *, begun: bool) -> Look:
        """How a run's nodes are looked at before anything of it is launched.

        Those of a new run are looked at now, so that what blocks leaves no run behind; those of
        one that was begun, when it is known which nodes they are, as some may be replaced.

        Raises:
            PreflightError: something stands in a new run's way.
        """
        if begun:
            return self._look_again
        found = self._look(plan, told_elsewhere=())
        return lambda _plan: found

    def _look_again(self, plan: Plan) -> tuple[Found, ...]:
        """The nodes of a run that was begun before.

        If one of its jobs lives, that is joined, and holds the ports and the memory that would
        be asked for. A node that does not answer is told of by the stage that needs it, which
        knows what may take its place.
        """
        if any(job.state in ALIVE for job in self.status(plan.run_id)):
            return ()
        return self._look(plan, told_elsewhere=(Check.NODES,))

    def _look(self, plan: Plan, told_elsewhere: tuple[Check, ...]) -> tuple[Found, ...]:
        report = self.preflight(plan.fleet, plan.spec, rows=plan.rows)
        playing.hold_back(report, told_elsewhere)
        return tuple(item for item in report.findings if item.severity is Severity.WARN)


def no_look(_plan: Plan) -> tuple[Found, ...]:
    """Of a run that launches nothing, or was told not to look."""
    return ()
