"""What happens in a run, as one type: shown, followed, and kept in ``events.jsonl``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """What an event tells of."""

    RUN_STARTED = "run_started"
    RUN_FINISHED = "run_finished"
    RUN_FAILED = "run_failed"
    RUN_STOPPED = "run_stopped"
    STAGE_STARTED = "stage_started"
    STAGE_FINISHED = "stage_finished"
    STAGE_FAILED = "stage_failed"
    PROGRESS = "progress"
    NODE = "node"
    USAGE = "usage"
    ALERT = "alert"
    NOTIFIED = "notified"
    CONTINUED = "continued"
    REPLACED = "replaced"
    RETRY = "retry"
    GATHERED = "gathered"
    PREFLIGHT = "preflight"


RUN_ENDED = frozenset({EventKind.RUN_FINISHED, EventKind.RUN_FAILED, EventKind.RUN_STOPPED})


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        kind: What it tells of.
        stage: The stage, or "" where the event is the run's.
        at: Seconds since this controller began to drive the run.
        node: The node, or "" where the event is no single node's.
        data: By kind. ``run_started``: ``run_id``, ``stages``,
            ``tools`` (versions). ``stage_started``: ``what``.
            ``progress``: ``step``, ``total``, ``loss``, ``grad_norm``, ``lr``,
            ``seconds_per_step``, ``elapsed`` and ``remaining`` (seconds).
            ``stage_finished``: ``seconds``, ``result``. ``stage_failed``: ``error``, ``state``.
            ``node``: ``state`` (of the job, or ``unreachable``), ``job``, ``detail``.
            ``usage``: ``cpu_percent``, ``memory_bytes``, ``gpus``. ``alert``: ``kind``,
            ``detail``. ``run_finished``: ``seconds``. ``run_failed``: ``error``.
            ``notified``: ``channel``, ``occasion``, ``ok``, ``tries``, ``error``.
            ``continued``: ``checkpoint`` ("" from the beginning), ``iteration``, ``detail``.
            ``replaced``: ``nodes`` (old to new), ``kept`` (the plan before), ``detail``.
            ``retry``: ``attempt``, ``attempts``, ``why``, ``lost`` (nodes), ``detail``.
            ``gathered``: ``checkpoint``, ``nodes``, ``moved`` (bytes), ``seconds``, ``detail``.
            ``preflight``, a warning: ``check``, ``expected``, ``found``, ``remedy``, ``detail``.
        time: Seconds since the epoch, by the controller's clock.
    """

    kind: EventKind
    stage: str
    at: float
    node: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; :meth:`from_dict` reads it back."""
        return {
            "kind": self.kind.value,
            "stage": self.stage,
            "at": round(self.at, 3),
            "time": round(self.time, 3),
            "node": self.node,
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Event:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ValueError: the data are no event of this version.
        """
        try:
            return cls(
                kind=EventKind(data["kind"]),
                stage=str(data["stage"]),
                at=float(data["at"]),
                node=str(data["node"]),
                data=dict(data["data"]),
                time=float(data["time"]),
            )
        except (KeyError, TypeError) as problem:
            raise ValueError(f"not an event: {problem!r}") from None

    def line(self) -> str:
        """The event as a line of ``events.jsonl``."""
        return json.dumps(self.to_dict(), ensure_ascii=False) + "\n"
