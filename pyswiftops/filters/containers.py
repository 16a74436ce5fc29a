"""Filters of the container fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyswiftops.planner import containers

NEEDED = ("swiftops_container", "swiftops_device", "swiftops_fleet_name", "swiftops_host_nodes")


def _containers(variables: Mapping[str, Any], image: str, limits: bool) -> list[dict[str, Any]]:
    ours = {name: variables[name] for name in NEEDED}
    return containers.containers(ours, image, limits=limits)


FILTERS: dict[str, Callable[..., Any]] = {
    "container_definitions": _containers,
    "container_host_keys": containers.host_keys,
    "containers_lacking": containers.lacking,
    "containers_live": containers.live,
    "engine_proxy": containers.engine_proxy,
    "engine_told": containers.engine_told,
    "engine_settings": containers.engine_settings,
    "image_definition": containers.image_definition,
    "image_environment": containers.image_environment,
    "memory_of": containers.memory_of,
}
