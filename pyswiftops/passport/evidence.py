"""What the nodes still hold of a run's jobs: the ends of their logs, and stacks of hung ones."""

from __future__ import annotations

import re

from pyswiftops.errors import SwiftOpsError
from pyswiftops.nodes import Nodes
from pyswiftops.results import CommandResult, job_status
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.stages.node import nodes_from_vars

STACK_BYTES = 200_000
_HEADER = re.compile(r"^==> (.*) <==$", re.MULTILINE)


def gather(fleet: Fleet, run_id: str, lines: int) -> tuple[dict[str, str], list[str]]:
    """Ask the nodes.

    Args:
        fleet: The run's fleet.
        run_id: The run's id.
        lines: Last lines of each log.

    Returns:
        Name in the bundle -> text, and a sentence for each thing that could not be had.
    """
    nodes = Nodes(fleet)
    jobs = [job for stage in CATALOG.values() for job in stage.jobs]
    texts: dict[str, str] = {}
    try:
        told = [job_status(item) for item in nodes.jobs(run_id, jobs, tail=lines)]
        silent = set(nodes.names) - {status.node for status in told if status.job}
        missing = [f"logs of {node}: it does not answer" for node in sorted(silent)]
        for status in told:
            if status.job and status.state != "absent":
                head = f"{status.job} on {status.node}: {status.state} {status.detail}\n\n"
                texts[f"logs/{status.node}/{status.job}.txt"] = head + "\n".join(status.tail) + "\n"
        failed = sorted({status.job for status in told if status.state in {"failed", "lost"}})
        texts |= _stacks(fleet, run_id, failed)
    except SwiftOpsError as problem:
        missing = [f"logs and stacks of the nodes: {problem}"]
    return texts, missing


def _stacks(fleet: Fleet, run_id: str, jobs: list[str]) -> dict[str, str]:
    """Stacks of failed jobs, where a supervisor recorded some; each node's own only."""
    own = {
        node.name: {node.paths(run_id).stacks(job): job for job in jobs}
        for node in nodes_from_vars(fleet.host_vars())
    }
    paths = list(dict.fromkeys(path for mine in own.values() for path in mine))
    if not paths:
        return {}
    argv = ["tail", "--verbose", f"--bytes={STACK_BYTES}", "--", *paths]
    return {
        f"stacks/{result.node}/{own[result.node][path]}.txt": text
        for result in Nodes(fleet).execute(argv)
        for path, text in _parts(result).items()
        if path in own[result.node] and text.strip()
    }


def _parts(result: CommandResult) -> dict[str, str]:
    """What ``tail --verbose`` printed, file by file."""
    pieces = _HEADER.split(result.stdout)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))
