"""The newest line that meets all demands; or which demands would have to give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from pyswiftops import matrix
from pyswiftops.errors import Finding, UnsolvableError
from pyswiftops.hardware import hardware
from pyswiftops.solver.asked import PIN, Asked, Machine, Wish, choices, demands
from pyswiftops.solver.builds import NoFitError
from pyswiftops.solver.fit import Solution, fit

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def solve(machine: Machine, wish: Wish) -> Solution:
    """The newest release line with pins that meet every demand.

    Raises:
        BadInputError: a demand is malformed, or unknown to every line.
        UnsolvableError: no line meets all; the findings name what would have to give.
    """
    asked = demands(machine, wish)
    found = newest(asked)
    if found is None:
        gives = relaxations(asked)
        raise UnsolvableError((_finding(asked, give) for give in gives), gives)
    return found


def newest(asked: Asked) -> Solution | None:
    """The newest line that fits; None where none does."""
    for row in reversed(matrix.rows().values()):
        try:
            return fit(row, asked)
        except NoFitError:
            continue
    return None


def relaxations(asked: Asked) -> list[tuple[str, ...]]:
    """The smallest sets of demands without which a line fits: all of the smallest size."""
    for size in range(1, len(asked) + 1):
        found = [
            names
            for names in combinations(asked, size)
            if newest(without(asked, names)) is not None
        ]
        if found:
            return found
    return []


def without(asked: Asked, names: Iterable[str]) -> dict[str, str]:
    """The other demands."""
    given_up = set(names)
    return {name: value for name, value in asked.items() if name not in given_up}


def _finding(asked: Asked, names: tuple[str, ...]) -> Finding:
    """What a set of demands would have to give, and for what."""
    solution = newest(without(asked, names))
    if solution is None:
        raise AssertionError("a relaxation fits")
    row = matrix.row(asked.get("line", solution.line))
    told = [f"{name} {asked[name]}" for name in names]
    instead = "; ".join(filter(None, (_instead(asked, name, solution) for name in names)))
    return Finding(
        f"demands that fit together; of ms-swift {row.line}: {_why(row, asked)}",
        " and ".join(told),
        ", ".join(names),
        instead if len(names) == 1 and instead else _give_up(names, solution, instead),
    )


def _give_up(names: tuple[str, ...], solution: Solution, instead: str) -> str:
    told = f"give up {' and '.join(names)}: then ms-swift {solution.line} fits"
    return f"{told}, with {instead}" if instead else told


def _why(row: matrix.Row, asked: Asked) -> str:
    try:
        fit(row, asked)
    except NoFitError as problem:
        return str(problem)
    raise AssertionError("no line fits")


def _instead(asked: Asked, name: str, solution: Solution) -> str:
    """What would do in place of a demand, all others being as they are."""
    if name.startswith(PIN):
        pin = solution.pins.get(name[len(PIN) :])
        return f"{name[len(PIN) :]} {pin.specifier} would do" if pin else f"leave out {name}"
    fitting = [value for value in _candidates(name) if newest({**asked, name: value}) is not None]
    if name == "driver" and fitting:
        return f"driver {fitting[0]} or newer would do"
    return f"{name} {_listed(fitting)} would do" if fitting else ""


def _candidates(name: str) -> Iterator[str]:
    if name == "python":
        yield from PYTHONS
    elif name == "cuda":
        yield from hardware().cuda
    elif name == "driver":
        yield from dict.fromkeys(toolkit.driver for toolkit in hardware().cuda.values())
    elif name != "model_type":
        yield from choices(name)


def _listed(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
