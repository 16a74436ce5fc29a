# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters of the container fleet: thin imports of the Python package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from pyswiftops.errors import BadInputError
    from pyswiftops.planner import containers
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None

NEEDED = ("swiftops_container", "swiftops_device", "swiftops_fleet_name", "swiftops_host_nodes")


def _containers(variables: Mapping[str, Any], image: str, limits: bool) -> list[dict[str, Any]]:
    try:
        ours = {name: variables[name] for name in NEEDED}
        return containers.containers(ours, image, limits=limits)
    except BadInputError as problem:
        raise AnsibleFilterError(str(problem)) from problem


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
            "container_definitions": _containers,
            "container_host_keys": containers.host_keys,
            "containers_lacking": containers.lacking,
            "containers_live": containers.live,
            "engine_proxy": containers.engine_proxy,
            "engine_settings": containers.engine_settings,
            "image_definition": containers.image_definition,
            "image_environment": containers.image_environment,
            "memory_of": containers.memory_of,
        }
