"""``run.json`` of earlier versions, brought to this one step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyswiftops.states import StageState, run_state

VERSION = 2


def _from_1(state: dict[str, Any]) -> dict[str, Any]:
    """Version 2 names who drives the run, which stages were asked for, and the run's state."""
    stages = state.get("stages", {})
    states = [StageState(item["state"]) for item in stages.values()]
    return {
        **state,
        "version": 2,
        "state": state.get("state", run_state(states).value),
        "controller": None,
        "requested": list(stages),
    }


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def migrate(state: dict[str, Any]) -> dict[str, Any]:
    """The state as this version writes it.

    Raises:
        ValueError: the version is none that this package knows.
    """
    version = state.get("version")
    while version != VERSION:
        if version not in MIGRATIONS:
            raise ValueError(f"version {version!r}")
        state = MIGRATIONS[version](state)
        version = state["version"]
    return state
