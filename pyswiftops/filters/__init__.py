"""What playbooks and roles ask of Python; ``plugins/filter/package.py`` exposes it to Ansible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyswiftops.filters import (
    checkpoints,
    containers,
    fabric,
    fetch,
    installing,
    preflight,
    settings,
    stages,
)

FILTERS: dict[str, Callable[..., Any]] = {
    **checkpoints.FILTERS,
    **containers.FILTERS,
    **fabric.FILTERS,
    **fetch.FILTERS,
    **installing.FILTERS,
    **preflight.FILTERS,
    **settings.FILTERS,
    **stages.FILTERS,
}
