"""Which release line, and which pins, fit a machine and a wish; or what would have to give."""

from pyswiftops.solver.asked import Machine, Wish
from pyswiftops.solver.fit import Pin, Solution
from pyswiftops.solver.solve import solve

__all__ = ["Machine", "Pin", "Solution", "Wish", "solve"]
