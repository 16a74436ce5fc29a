"""Filters of the role ``gather``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pyswiftops.planner.fetching import reach
from pyswiftops.planner.gathering import Options, Target, choose, plan_gather


def gather_reach(variables: Mapping[str, Any]) -> dict[str, Any]:
    """How another node of the fleet reaches this one, and the Python there."""
    return reach(variables)


def gather_request(
    told: Mapping[str, Mapping[str, Any]],
    reach: Mapping[str, Mapping[str, Any]],
    *,
    to: str,
    gathered: str,
    dest: str = "",
    checkpoint: str = "",
    weights_only: bool = False,
    rate: float = 0,
    check: bool = False,
    sync: bool = False,
    any_time: bool = False,
) -> dict[str, Any]:
    """The request for the node that a checkpoint goes to.

    Args:
        told: node -> what the module ``checkpoint_ledger`` returned there; without
            ``checkpoints`` where the node did not answer, which then holds nothing.
        reach: node -> :func:`gather_reach`.
        to: The node's name.
        gathered: The run's folder for gathered checkpoints there.
        dest: The checkpoint's folder there; by default where its own files lie, or in ``gathered``.
        checkpoint: Its name; by default the newest.
        weights_only: Leave optimizer and random generators behind.
        rate: Megabytes a second of each source; 0 for no limit.
        check: Compare bytes even where sizes and times agree.
        sync: Write through to the disk.
        any_time: Take shards whatever their times.

    Raises:
        BadInputError: the checkpoint would not be whole.
    """
    answered = {node: answer for node, answer in told.items() if "checkpoints" in answer}
    held = choose(answered, checkpoint, time.time())
    options = Options(
        weights_only=bool(weights_only),
        rate=int(float(rate) * 1e6),
        check=bool(check),
        sync=bool(sync),
        any_time=bool(any_time),
    )
    target = Target(str(to), str(dest) or held.place(str(to), str(gathered), options))
    return dict(plan_gather(held.copies, reach, target, options).request)


FILTERS: dict[str, Callable[..., Any]] = {
    "gather_reach": gather_reach,
    "gather_request": gather_request,
}
