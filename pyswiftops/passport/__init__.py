"""A run's passport: what was run, on what, with what, and what came of it."""

from pyswiftops.passport.diff import Difference, differences
from pyswiftops.passport.document import VERSION, from_folder, kept, load, make, write

__all__ = ["VERSION", "Difference", "differences", "from_folder", "kept", "load", "make", "write"]
