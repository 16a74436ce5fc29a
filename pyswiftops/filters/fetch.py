"""Filters of the stage fetch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pyswiftops.planner import fetching
from pyswiftops.tokens import NAMES
from pyswiftops.tokens import hub_tokens as read_tokens


def hub_tokens(hub: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Tokens by the clients' names: out of the fleet's file, the environment, or as given.

    Args:
        hub: The variable ``swiftops_hub``.
        given: What the SDK hands over, as it keeps secrets out of Ansible's environment.
    """
    named = {name: str(given[name]) for name in NAMES if given.get(name)}
    return read_tokens(hub.get("tokens"), os.environ) | named


def inputs_before(run: Mapping[str, Any], variables: Mapping[str, Any], place: str) -> Any:
    """Inputs that can be looked at before a fetch, on a node or on the controller."""
    return fetching.inputs_before(run, _ours(variables), place)


def inputs_after(run: Mapping[str, Any], variables: Mapping[str, Any]) -> Any:
    """Inputs as later stages read them on a node."""
    return fetching.inputs_after(run, _ours(variables))


def input_files(run: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, str]:
    """Inputs on a node as the module ``record`` takes them: label to path."""
    inputs = fetching.inputs_after(run, _ours(variables))
    datasets = {f"data.{number}": path for number, path in enumerate(inputs["datasets"], 1)}
    return {"model": inputs["model"], **datasets}


def _ours(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Only what renderers read; others may not be known yet."""
    return {name: value for name, value in variables.items() if name.startswith("swiftops_")}


FILTERS: dict[str, Callable[..., Any]] = {
    "fetch_lacking": fetching.lacking,
    "fetch_recorded": fetching.fetch_recorded,
    "fetch_room": fetching.fetch_room,
    "fetch_steps": fetching.fetch_steps,
    "hub_tokens": hub_tokens,
    "input_files": input_files,
    "inputs_after": inputs_after,
    "inputs_before": inputs_before,
    "model_findings": fetching.model_findings,
    "pull_from": fetching.pull_from,
    "push_target": fetching.push_target,
}
