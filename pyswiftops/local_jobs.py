"""Jobs of local nodes, read where they lie: by the module ``job``'s own code, without Ansible.

A local node's files are this machine's, so that a playbook would only add half a second a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyswiftops.content import module_util
from pyswiftops.paths import NodePaths
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet


def read(
    fleet: Fleet,
    run_id: str,
    jobs: Iterable[str],
    *,
    tail: int = 0,
    log_from: Mapping[str, int] | None = None,
    log_since: float | None = None,
) -> list[ModuleResult]:
    """What the playbook ``status`` would return of a local fleet.

    Args:
        fleet: A fleet of runtime ``local``.
        run_id: The run's id.
        jobs: Which jobs.
        tail: Last log lines to bring along.
        log_from: ``<node>/<job>`` -> bytes of that log which are known already.
        log_since: Of the logs only what came after, in seconds since the epoch.
    """
    job_view, known = module_util("job_view"), log_from or {}
    results = []
    for node in fleet.members:
        paths = NodePaths(fleet.node_root(node), run_id)
        for job in jobs:
            wanted = job_view.Wanted(tail, None, known.get(f"{node.name}/{job}"), log_since)
            data = job_view.read(paths.job(job), wanted)
            results.append(ModuleResult("job", f"State of {job}", node.name, data, failed=False))
    return results
