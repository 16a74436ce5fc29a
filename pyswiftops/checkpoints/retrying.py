"""Whether training that has failed is tried again, and which spare takes a lost node's place. Pure.

A failure is the run's own unless something says otherwise: out of memory, a wrong flag or rows
that cannot be read would only fail again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyswiftops.explain import Explanation
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import Retry

OF_MACHINES = {
    "signal": "was killed by a signal",
    "hung": "hung",
    "peer_silent": "fell silent",
    "join_timeout": "did not join the others in time",
    "lost": "lost its supervisor, as at a restart of the machine",
}
"""Kinds of the module ``job`` that are no fault of the run -> the end of a sentence."""

OF_RUNS = frozenset({"nan", "isolation", "start_failed", "stopped"})
"""Kinds that another try would end with as well, or that somebody wanted."""


@dataclass(frozen=True)
class Failure:
    """How training failed.

    Attributes:
        node: The node that failed first; "" where none is known.
        kind: Why its job ended, as the module ``job`` has it; "" where it did not tell.
        known: The error of upstream that its log told, if it is a known one.
        unreachable: Nodes that the controller could not reach.
    """

    node: str = ""
    kind: str = ""
    known: Explanation | None = None
    unreachable: tuple[str, ...] = ()

    @property
    def why_again(self) -> str:
        """Why another try may succeed; "" where the failure is the run's own."""
        if self.unreachable:
            return f"{', '.join(self.unreachable)} could not be reached"
        if self.kind in OF_RUNS:
            return ""
        named = self.node or "a node"
        if self.kind == "hung" or self.known is None:
            ending = OF_MACHINES.get(self.kind, "")
            return f"training on {named} {ending}" if ending else ""
        return f"{self.known.id} on {named}" if self.known.passes else ""

    @property
    def broken(self) -> tuple[str, ...]:
        """Nodes that answer, and would fail again."""
        return (self.node,) if self.known is not None and self.known.broken and self.node else ()


@dataclass(frozen=True)
class Again:
    """One more try.

    Attributes:
        number: Which one, from 1.
        why: Why it may succeed.
        broken: Nodes that must not be used again if there is a spare.
    """

    number: int
    why: str
    broken: tuple[str, ...] = ()


def again(failure: Failure, made: int, retry: Retry) -> Again | None:
    """Whether training is tried once more.

    Args:
        failure: How it failed.
        made: How many tries there were after the first.
        retry: What the run allows.
    """
    why = failure.why_again
    if not why or made >= retry.attempts:
        return None
    return Again(made + 1, why, failure.broken)


def assign(fleet: Fleet, lost: Iterable[str], dead: Iterable[str] = ()) -> dict[str, str]:
    """Lost node -> the spare that takes its place: the first with as many ranks.

    Args:
        fleet: With its spares.
        lost: Nodes of the fleet.
        dead: Spares that are no use.

    Returns:
        Of nodes for which there is none, nothing.
    """
    free = [spare for spare in fleet.spares if spare.name not in set(dead)]
    found: dict[str, str] = {}
    for node in [node for node in fleet.members if node.name in set(lost)]:
        fitting = next((one for one in free if fleet.ranks(one) == fleet.ranks(node)), None)
        if fitting is not None:
            free.remove(fitting)
            found[node.name] = fitting.name
    return found
