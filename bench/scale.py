"""Plan, status and event handling of large fleets, each beside the plain way of doing it.

Simulated: 512 nodes that are only planned for, and 256 local nodes with a finished job each, as
the module ``job`` leaves it. Measured: ``Client`` 's own code, nothing else runs.

- plan: every command of 512 nodes; beside it the renderers alone, called job by job.
- status: 256 local nodes, read where they lie; beside it the playbook ``status`` on 8 of them,
  which asks every node through Ansible (256 would take minutes), a node's share of it times 256.
- events: what 512 nodes report while they train, turned into events and kept; growth of the
  resident memory over the second half of 100,000 events.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyswiftops.client import Client
from pyswiftops.events import Event
from pyswiftops.nodes import Nodes
from pyswiftops.paths import NodePaths, RunFolder
from pyswiftops.pipeline import NodeEvents
from pyswiftops.planner.plan import make_plan
from pyswiftops.runner import ModuleResult
from pyswiftops.runs import ALL_JOBS
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.stages.render import render
from pyswiftops.store import RunStore

PLANNED, ASKED, PLAYED = 512, 256, 8
EVENTS = 100_000
ROUNDS = 5


def local_fleet(nodes: int, root: Path) -> Fleet:
    """A local fleet."""
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": str(root),
        "nodes": [{"name": f"node-{number}"} for number in range(1, nodes + 1)],
    }
    return Fleet.from_document(document, root / "fleet.yml")


def host_fleet(nodes: int) -> Fleet:
    """Machines with eight GPUs each; nobody calls them."""
    machines = [
        {"name": f"node-{number}", "address": f"10.0.{number // 250}.{number % 250 + 1}", "gpus": 8}
        for number in range(nodes)
    ]
    document = {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "nodes": machines}
    return Fleet.from_document(document, Path("/fleet.yml"))


def spec(rows: int) -> RunSpec:
    """A run that all of them train."""
    run = {
        "name": "scale",
        "model": {"path": "/models/m", "model_type": "llama", "template": "chatml"},
        "data": {"train": ["/data/rows.jsonl"]},
        "training": {"iterations": 1000, "global_batch_size": rows},
    }
    return RunSpec.from_document({"run": run}, Path("/run.yml"))


def best(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def plan() -> tuple[float, float]:
    """Seconds of a plan with its digest and text, and of the renderers alone."""
    machines, run = host_fleet(PLANNED), spec(PLANNED * 8)

    def ours() -> None:
        made = make_plan(machines, run, "scale")
        assert made.digest
        assert len(made.jobs["train"]) == PLANNED

    nodes = nodes_from_vars(machines.host_vars())
    return best(ours), best(lambda: [render(job, "scale", run, nodes) for job in ALL_JOBS])


def finished(root: Path) -> None:
    """What the module ``job`` leaves of a job that has ended."""
    folder = Path(NodePaths(str(root), "scale").job("train"))
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "log").write_text("iteration 1000/1000\n" * 200, encoding="utf-8")
    lists: dict[str, Any] = {name: [] for name in ("joined", "segments_removed", "notes")}
    state = {
        "version": 1,
        "state": "succeeded",
        "run_id": "scale",
        "stage": "train",
        "node": root.name,
        "boot_id": "of another boot",
        "argv": ["megatron", "sft"],
        "isolation": "none",
        "supervisor": [1, 1],
        "leader": [1, 1],
        "started_at": 1.0,
        "ended_at": 2.0,
        "exit_code": 0,
        "signal": None,
        "reason": None,
        "descendants": [],
        **lists,
    }
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def status(root: Path) -> tuple[float, float]:
    """Seconds for 256 local nodes, and what the playbook would take, by its share a node."""
    machines, run = local_fleet(ASKED, root), spec(ASKED)
    for node in machines.nodes:
        finished(Path(machines.node_root(node)))
    client = Client(root / "runs")
    RunStore(RunFolder(client.runs, "scale")).create(make_plan(machines, run, "scale"))

    def ours() -> None:
        states = [job.state for job in client.status("scale", tail=5)]
        assert states.count("succeeded") == ASKED
        assert len(states) == ASKED * len(ALL_JOBS)

    seconds = best(ours)
    few = machines.model_copy(update={"nodes": machines.nodes[:PLAYED]})
    variables = {"swiftops_run_id": "scale", "swiftops_jobs": list(ALL_JOBS), "swiftops_tail": 5}
    begin = time.perf_counter()
    answers = Nodes(few).play("status", variables).data("job")
    assert len(answers) == PLAYED
    return seconds, (time.perf_counter() - begin) / PLAYED * ASKED


def resident() -> float:
    """Resident memory of this process in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def events(root: Path) -> tuple[float, float, int]:
    """Microseconds an event, growth of memory in MB over the second half, and events."""
    store = RunStore(RunFolder(root / "runs", "scale"))
    seen = [0]

    def emit(kind: Any, stage: str, data: Any, node: str) -> None:
        seen[0] += 1
        store.record(Event(kind, stage, 0.0, node, data))

    told = NodeEvents("train", emit)
    begin = time.perf_counter()
    half = 0.0
    rounds = EVENTS // PLANNED
    for step in range(1, rounds + 1):
        if step == rounds // 2:
            half = resident()
        for node in range(PLANNED):
            progress = {"step": step, "total": rounds, "loss": 1.0 / step, "remaining": 1.0}
            data = {"directory": "/r/jobs/train", "state": "running", "progress": progress}
            told.take(ModuleResult("job", "t", f"node-{node}", data, failed=False, final=False))
    took = time.perf_counter() - begin
    return took / seen[0] * 1e6, resident() - half, seen[0]


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory(prefix="swiftops-bench-") as name:
        root = Path(name)
        plan_s, render_s = plan()
        status_s, played_s = status(root / "asked")
        event_us, growth, count = events(root / "asked")
    print(f"{'what':<44}{'ours':>10}{'plain way':>12}")
    print(f"{f'plan of {PLANNED} nodes, s':<44}{plan_s:>10.3f}{render_s:>12.3f}")
    print(f"{f'status of {ASKED} local nodes, s':<44}{status_s:>10.3f}{played_s:>12.1f}")
    print(f"{f'event of {count} on {PLANNED} nodes, microseconds':<44}{event_us:>10.1f}")
    print(f"{'growth of memory over the second half, MB':<44}{growth:>10.2f}")
    print(
        f"RESULT plan_512_s={plan_s:.3f} status_256_s={status_s:.3f} "
        f"plan_ratio={plan_s / render_s:.3f} status_ratio={status_s / played_s:.4f} "
        f"event_us={event_us:.1f} memory_growth_mb={growth:.2f} "
        f"cores={os.cpu_count()} python={sys.version.split()[0]}"
    )


if __name__ == "__main__":
    main()
