# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters of the container fleet: thin imports of the Python package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from pyswiftops.planner import containers
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None


class FilterModule:
    """Filters under ``pyswiftops.fleet``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> filter."""
        if MISSING is not None:
            raise AnsibleFilterError(
                "expected the Python package pyswiftops beside ansible-core, found none "
                f"({MISSING}); remedy: pip install pyswiftops"
            )
        return {
            "image_definition": containers.image_definition,
            "image_environment": containers.image_environment,
        }
