"""Lines of a run's job logs, merged over the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyswiftops.nodes import Nodes
from pyswiftops.results import ALIVE, LogLine, all_answered, job_status

FOLLOW_SECONDS = 1.0


@dataclass(frozen=True)
class Source:
    """Which logs are meant.

    Attributes:
        nodes: The run's nodes.
        run_id: The run's id.
        jobs: Which jobs.
        node: Only this node's.
        since: Only lines that came after, in seconds since the epoch.
    """

    nodes: Nodes
    run_id: str
    jobs: tuple[str, ...]
    node: str | None = None
    since: float | None = None


def last_lines(source: Source, tail: int) -> Iterator[LogLine]:
    """The last lines of each log.

    Raises:
        StageFailedError: a node did not answer; lines of the others came before.
    """
    wanted = source.nodes.chosen(source.node)
    found = source.nodes.jobs(source.run_id, source.jobs, tail=tail, log_since=source.since)
    answers = list(dict.fromkeys(map(job_status, found)))
    for status in answers:
        if status.node in wanted:
            yield from (LogLine(status.node, status.job, text) for text in status.tail)
    all_answered(answers, wanted)


def all_lines(source: Source, driven: Callable[[], bool] | None) -> Iterator[LogLine]:
    """All lines of each log.

    Args:
        source: Which logs.
        driven: Whether a controller drives the run now: go on with new lines until all jobs
            have ended and none does. Without it end with the lines that are there.

    Raises:
        StageFailedError: a node did not answer; lines of the others came before.
    """
    nodes = source.nodes
    wanted = nodes.chosen(source.node)
    known = {f"{name}/{job}": 0 for name in nodes.names for job in source.jobs}
    while True:
        # Asked first: what the controller starts now is seen below.
        more = driven is not None and driven()
        answers = []
        found = nodes.jobs(source.run_id, source.jobs, log_from=known, log_since=source.since)
        for item in found:
            status = job_status(item)
            answers.append(status)
            lines = item.data.get("log_lines") or ()
            known[f"{item.node}/{status.job}"] = int(item.data.get("log_next") or 0)
            if driven is None:
                more = more or bool(item.data.get("log_more"))
            else:
                more = more or bool(lines) or status.state in ALIVE
            if item.node in wanted:
                yield from (LogLine(item.node, status.job, str(text)) for text in lines)
        all_answered(answers, wanted)
        if not more:
            return
        if driven is not None:
            time.sleep(FOLLOW_SECONDS)
