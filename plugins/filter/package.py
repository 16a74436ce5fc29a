# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""All filters: thin imports of ``pyswiftops.filters``, with Ansible's errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from pyswiftops.errors import BadInputError
    from pyswiftops.filters import FILTERS
    from pyswiftops.stages.command import UnboundValueError
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the package's errors into Ansible's, with the same sentence."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (BadInputError, UnboundValueError) as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return wrapper


class FilterModule:
    """Filters under ``pyswiftops.fleet``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> filter."""
        if MISSING is not None:
            raise AnsibleFilterError(
                "expected the Python package pyswiftops beside ansible-core, found none "
                f"({MISSING}); remedy: pip install pyswiftops (a collection alone holds no "
                "renderers of training flags)"
            )
        return {name: _checked(function) for name, function in FILTERS.items()}
