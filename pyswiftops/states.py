"""States of stages and of runs; job states are kept where jobs run (module_utils)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class StageState(StrEnum):
    """Where one stage of a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


TERMINAL = frozenset({StageState.SUCCEEDED, StageState.FAILED, StageState.STOPPED})


def run_state(stages: Iterable[StageState]) -> StageState:
    """The one mapping from stage states to the state of their run."""
    states = set(stages)
    for decisive in (StageState.FAILED, StageState.STOPPED, StageState.RUNNING):
        if decisive in states:
            return decisive
    if states <= {StageState.SUCCEEDED} and states:
        return StageState.SUCCEEDED
    return StageState.RUNNING if StageState.SUCCEEDED in states else StageState.PENDING
