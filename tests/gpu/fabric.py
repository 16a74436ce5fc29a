"""Measure between two logical nodes of one GPU each with NCCL: ``swiftops check-fabric`` as it is.

usage: fabric.py FOLDER [--nodes 2] [--device cpu] [--network]

Prints the tables and a RESULT line. ``--network`` switches NCCL's peer-to-peer and shared-memory
transports off, so that all data go through sockets; its rates must then be lower.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pyswiftops.cli.fabric import show_report
from pyswiftops.client import Client
from pyswiftops.fabric.picture import svg
from pyswiftops.fabric.plan import Options
from pyswiftops.fabric.report import FabricReport
from pyswiftops.specs.fleet import PLUGIN, Fleet

OFF = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}


def fleet_of(folder: Path, device: str, count: int) -> Fleet:
    """Logical nodes of this machine, a GPU each."""
    document = {
        "plugin": PLUGIN,
        "runtime": "local",
        "device": device,
        "root": str(folder / "nodes"),
        "nodes": [
            {"name": f"node-{rank + 1}", **({"gpus": [rank]} if device == "gpu" else {})}
            for rank in range(count)
        ],
    }
    return Fleet.from_document(document, folder / "fleet.yml")


def measure(folder: Path, fleet: Fleet, env: dict[str, str]) -> FabricReport:
    """One check; what it printed and wrote is kept in the folder."""
    options = Options(seconds=60, env=env)
    report = Client(folder / "runs").check_fabric(fleet, options=options, tell=print)
    show_report(report)
    return report


def main() -> int:
    """Measure; the last line says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--network", action="store_true")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    fleet = fleet_of(folder, given.device, given.nodes)
    report = measure(folder, fleet, OFF if given.network else {})
    told = report.readings
    (folder / "report.json").write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    (folder / "pairs.svg").write_text(svg(told.nodes, told.links, told.backend), encoding="utf-8")
    rates = [link.rate / 1e9 for link in told.links.values() if link.rate]
    latencies = [link.latency * 1e6 for link in told.links.values() if link.latency]
    ways = {node: (way.network, way.bypass or "no RDMA") for node, way in told.ways.items()}
    print(f"ways: {ways}")
    print(
        f"RESULT fabric_ok={report.ok} backend={told.backend} nodes={len(told.nodes)} "
        f"busbw_gbs={told.sums[0].rate / 1e9 if told.sums else 0:.1f} "
        f"pair_gbs={min(rates, default=0):.1f} latency_us={min(latencies, default=0):.1f} "
        f"seconds={report.seconds:.0f}"
    )
    return 0 if report.ok and rates else 1


if __name__ == "__main__":
    sys.exit(main())
