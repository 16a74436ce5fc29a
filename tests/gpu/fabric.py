"""Measure between logical nodes of this machine, with the program of ``swiftops check-fabric``.

usage: fabric.py FOLDER [--nodes 2] [--device cpu] [--network]

Needs Python and torch alone: the program runs as it does as a job, and what it left is judged as
the controller judges it. Each node has one GPU and talks by NCCL. ``--network`` switches NCCL's
peer-to-peer and shared-memory transports off, so that all data go through the network's code.
Prints tables and a RESULT line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "pyswiftops"
alone = types.ModuleType("pyswiftops")  # the package itself would ask for Ansible
alone.__path__ = [str(PACKAGE)]
sys.modules["pyswiftops"] = alone

from pyswiftops.fabric import picture, report, schedule, verdicts  # noqa: E402 after the stand-in
from pyswiftops.fabric.node.measuring import VARIABLE  # noqa: E402 same
from pyswiftops.fabric.readings import Readings, read  # noqa: E402 same

OFF = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}
SIZES = [1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 28]


def ports(count: int) -> list[int]:
    """Free ports."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


def measure(folder: Path, given: argparse.Namespace) -> Readings:
    """Run the program on every node, at once; put together what they left."""
    names = [f"node-{number + 1}" for number in range(given.nodes)]
    free = ports(len(names))
    backend = "nccl" if given.device == "gpu" else "gloo"
    common: dict[str, Any] = {
        "check": "gpu",
        "places": {name: ["127.0.0.1", port] for name, port in zip(names, free, strict=True)},
        "ranks": dict.fromkeys(names, 1),
        "rounds": schedule.rounds(names, pairs=True),
        "backend": backend,
        "sizes": SIZES if backend == "nccl" else SIZES[:-1],
        "budget": 0.25,
        "seconds": 60,
        "grace": 30,
    }
    started = []
    for number, name in enumerate(names):
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        request = {**common, "node": name, "result": str(place / "result.json")}
        (place / "request.json").write_text(json.dumps(request), encoding="utf-8")
        env = {
            **os.environ,
            **(OFF if given.network else {}),
            VARIABLE: "token",
            "CUDA_VISIBLE_DEVICES": str(number) if backend == "nccl" else "",
            "GLOO_SOCKET_IFNAME": "lo",
            "NCCL_SOCKET_IFNAME": "lo",
        }
        argv = [sys.executable, "-m", "node.measuring", str(place / "request.json")]
        started.append(subprocess.Popen(argv, cwd=PACKAGE / "fabric", env=env))
    codes = [process.wait(600) for process in started]
    assert codes == [0] * len(names), codes
    look = {name: json.loads((folder / name / "result.json").read_text("utf-8")) for name in names}
    return read(names, backend, [look])


def main() -> int:
    """Measure; the last line says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--network", action="store_true")
    given = parser.parse_args()
    folder = given.folder.resolve()
    begin = time.monotonic()
    told = measure(folder, given)
    seconds = time.monotonic() - begin
    found = verdicts.faults(told, verdicts.Limits(dict.fromkeys(told.nodes, "here")))
    print(f"{'size':>8} {'us':>10} {'algbw':>10} {'busbw':>10}")
    for row in report.sizes_table(told.sums[0]):
        print("{:>8} {:>10} {:>10} {:>10}".format(*row))
    for row in report.matrix(told.nodes, told.links):
        print(" ".join(f"{cell:>10}" for cell in row))
    for fault in found:
        print(fault)
    (folder / "pairs.svg").write_text(picture.svg(told.nodes, told.links, told.backend), "utf-8")
    rates = [link.rate / 1e9 for link in told.links.values() if link.rate]
    latencies = [link.latency * 1e6 for link in told.links.values() if link.latency]
    ways = {node: (way.network, way.bypass or "no RDMA") for node, way in told.ways.items()}
    print(f"ways: {ways}; all-reduce: {told.sums[0].broken or 'done'}")
    print(
        f"RESULT fabric_faults={len(found)} backend={told.backend} nodes={len(told.nodes)} "
        f"busbw_gbs={told.sums[0].rate / 1e9:.1f} pair_gbs={min(rates, default=0):.1f} "
        f"latency_us={min(latencies, default=0):.1f} seconds={seconds:.0f}"
    )
    return 0 if rates and not found else 1


if __name__ == "__main__":
    sys.exit(main())
