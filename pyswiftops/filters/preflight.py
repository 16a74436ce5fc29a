"""Filters of the role ``preflight``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyswiftops.planner.commands import run_spec
from pyswiftops.preflight import report
from pyswiftops.preflight.asked import Asked, request
from pyswiftops.specs.run import RunSpec

TOKEN_BYTES = 8


def _spec(run: Mapping[str, Any]) -> RunSpec | None:
    return run_spec(run) if run else None


def preflight_request(
    variables: Mapping[str, Mapping[str, Any]], run: Mapping[str, Any]
) -> dict[str, Any]:
    """What the module ``preflight`` asks all nodes; another one each time.

    Args:
        variables: node -> its variables, in rank order.
        run: The run, or nothing.
    """
    return request(Asked.of(variables, _spec(run)), secrets.token_hex(TOKEN_BYTES))


def preflight_report(
    variables: Mapping[str, Mapping[str, Any]],
    told: Mapping[str, Mapping[str, Any]],
    run: Mapping[str, Any],
    only: Iterable[str] = (),
    accept: Iterable[str] = (),
) -> dict[str, Any]:
    """What all nodes told, judged.

    Args:
        variables: node -> its variables, in rank order.
        told: node or host -> what the module ``preflight`` returned there.
        run: The run, or nothing.
        only: Names of checks; all where none is given.
        accept: Checks that stop no launch.
    """
    facts = {name: item["facts"] for name, item in told.items() if "facts" in item}
    silent = {name: str(item.get("msg", "no answer")) for name, item in told.items()}
    asked = Asked.of(variables, _spec(run))
    judged = report.judge(asked, facts, only=only, accept=accept, silent=silent)
    lines = [
        f"{item.severity.value}: expected: {item.expected}; found: {item.found}; "
        f"where: {item.node or 'the fleet'}; remedy: {item.remedy}"
        for item in judged.findings
    ]
    return {**judged.to_dict(), "lines": lines}


FILTERS: dict[str, Callable[..., Any]] = {
    "preflight_report": preflight_report,
    "preflight_request": preflight_request,
}
