"""A full preflight of container nodes, beside the same looks as ordinary Ansible tasks.

- ours: ``swiftops preflight``, the whole command: every node looks at itself and meets all others.
- tasks: ``preflight_tasks.yml``, a task a subject. Nothing is judged, ports are tried to one other
  node instead of to all, and no folder is probed.

Both in turn on the same nodes, with connections kept from one to the next. SIZE (16), REPEATS (3)
and TASKS_REPEATS (1: task by task takes minutes) are taken from the environment. Needs root,
Docker and debootstrap.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.container_nodes import Nodes, container_nodes

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent
SIZE = int(os.environ.get("SIZE", "16"))
REPEATS = int(os.environ.get("REPEATS", "3"))
TASKS_REPEATS = int(os.environ.get("TASKS_REPEATS", "1"))
FLEET = {
    "python": "/usr/bin/python3",
    "preflight": {"accept": ["packages"]},  # the nodes have no ms-swift
}


def timed(argv: list[str], nodes: Nodes) -> tuple[float, str]:
    """Seconds and output of a program that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env=nodes.environment(), cwd=nodes.folder
    )
    took = time.perf_counter() - begin
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return took, done.stdout


def ours(nodes: Nodes) -> float:
    """The command; every node has answered, and met every other."""
    argv = [str(PROGRAMS / "swiftops"), "preflight", "-i", str(nodes.inventory), "--json"]
    took, said = timed(argv, nodes)
    report = json.loads(said)
    assert report["nodes"] == nodes.names, report["findings"]
    for told in report["facts"].values():
        assert "peers" in told["meeting"], told["meeting"]
        peers = told["meeting"]["peers"]
        assert len(peers) == len(nodes.names) - 1
        assert not any(why for peer in peers.values() for why in peer["ports"].values())
    return took


def tasks(nodes: Nodes) -> float:
    """A task a subject."""
    argv = [str(PROGRAMS / "ansible-playbook"), str(HERE / "preflight_tasks.yml")]
    return timed([*argv, "-i", str(nodes.inventory)], nodes)[0]


def main() -> None:
    """Measure and print the table."""
    took: dict[str, list[float]] = {"ours": [], "tasks": []}
    options = {f"node-{n + 1}": ["--shm-size=1g"] for n in range(SIZE)}
    with container_nodes(
        SIZE, "bench-preflight", "172.30.64.0/24", options=options, more=FLEET
    ) as nodes:
        ours(nodes)  # connections, and what the first call of all compiles
        for turn in range(REPEATS):
            took["ours"].append(ours(nodes))
            if turn < TASKS_REPEATS:
                took["tasks"].append(tasks(nodes))
            for name, values in took.items():
                print(f"{SIZE:>3} {name:<8}{values[-1]:8.2f}", flush=True)
    middle = {name: statistics.median(values) for name, values in took.items()}
    print(f"\n{'design':<10}{'nodes':>6}{'seconds':>10}{'spread':>16}")
    for name, values in took.items():
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(f"{name:<10}{SIZE:>6}{middle[name]:>10.2f}{spread:>16}")
    print(
        f"\nRESULT preflight_{SIZE}_s={middle['ours']:.2f} "
        f"preflight_vs_tasks={middle['ours'] / middle['tasks']:.3f}"
    )


if __name__ == "__main__":
    main()
