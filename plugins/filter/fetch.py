# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters of the stage fetch: thin imports of the Python package."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from pyswiftops.errors import BadInputError
    from pyswiftops.planner import fetching
    from pyswiftops.tokens import NAMES
    from pyswiftops.tokens import hub_tokens as read_tokens
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the package's errors into Ansible's, with the same sentence."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BadInputError as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return wrapper


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
            "fetch_lacking": fetching.lacking,
            "fetch_recorded": fetching.fetch_recorded,
            "fetch_room": fetching.fetch_room,
            "fetch_steps": _checked(fetching.fetch_steps),
            "hub_tokens": _checked(hub_tokens),
            "input_files": _checked(input_files),
            "inputs_after": _checked(inputs_after),
            "inputs_before": _checked(inputs_before),
            "model_findings": _checked(fetching.model_findings),
            "pull_from": fetching.pull_from,
            "push_target": fetching.push_target,
        }
