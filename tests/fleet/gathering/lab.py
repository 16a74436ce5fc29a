"""A checkpoint over container nodes, and what gathers it from the outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.checkpoints import Made, make
from bench.container_nodes import Nodes, await_port, run
from bench.gather import RECEIVE, ledger
from pyswiftops.planner.gathering import Options, Target, choose, plan_gather

SLOW = 4_000_000  # bytes a second: slow enough to be caught in the middle


@dataclass
class Lab:
    """Nodes, and the folder of this machine that they see as ``/data``.

    Each node's own files are below ``/data/<node>``; it is asked for no others.
    """

    nodes: Nodes
    data: Path
    made: Made = field(init=False)

    def renew(self) -> None:
        """A new checkpoint of 24 MB on each node, and nothing else."""
        for folder in self.data.iterdir():
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        self.made = make([self.data / name for name in self.nodes.names], 24, 10, 256 * 1024)

    @property
    def dest(self) -> Path:
        """Where it is gathered."""
        return self.data / "target" / "checkpoint-10"

    def container(self, node: str) -> str:
        """A node's container."""
        return f"swiftops-{self.nodes.fleet.name}-{node}"

    def ask(self, change: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> None:
        """Write the request as the controller makes it; ``change`` may spoil it."""
        names = self.nodes.names
        told = ledger(self.made, names, lambda path: "/data" / path.relative_to(self.data))
        reach = {name: {"remote": {"host": name}, "python": "python3"} for name in names}
        reach[names[0]]["remote"] = None
        copies = choose(told, "", time.time()).copies
        target = Target(names[0], "/data/target/checkpoint-10")
        request = dict(plan_gather(copies, reach, target, Options(**options)).request)
        request["parts"] = [part for part in request["parts"] if part["files"]]
        if change:
            change(request)
        (self.data / "request.json").write_text(json.dumps(request), encoding="utf-8")

    def start(self) -> subprocess.Popen[str]:
        """The gather on the first node."""
        argv = ["docker", "exec", self.container("node-1"), "sh", "-c", RECEIVE]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True)

    def gather(self) -> tuple[int, str]:
        """Its exit code, and what it said of an error."""
        job = self.start()
        _, said = job.communicate(timeout=120)
        return job.returncode, said

    def moved(self) -> int:
        """Bytes that the last gather that succeeded moved."""
        return int(json.loads((self.data / "request.answer").read_text())["moved"])

    def arrived(self) -> int:
        """Bytes in the staging folder."""
        staging = self.dest.with_name(f".{self.dest.name}.gather")
        return sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())

    def until_half(self, job: subprocess.Popen[str]) -> None:
        """Wait until some of it has arrived; it must not have ended."""
        end = time.monotonic() + 60
        while self.arrived() < self.made.bytes / 3:
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)

    def whole(self) -> bool:
        """The target has every file of every node, byte for byte."""
        return all(
            (self.dest / path.relative_to(folder)).read_bytes() == path.read_bytes()
            for folder in self.made.folders
            for path in folder.rglob("*")
            if path.is_file()
        )

    def revive(self, node: str) -> None:
        """Start a node that was killed."""
        run("docker", "start", self.container(node))
        await_port(str(self.address(node)))

    def address(self, node: str) -> str:
        """A node's address."""
        fleet = self.nodes.fleet
        return str(fleet.address(next(item for item in fleet.nodes if item.name == node)))

    def network(self, way: str, node: str) -> None:
        """``connect`` a node to the fleet's network, or ``disconnect`` it."""
        words = ["--ip", self.address(node)] if way == "connect" else ["--force"]
        run(
            "docker",
            "network",
            way,
            *words,
            f"swiftops-{self.nodes.fleet.name}",
            self.container(node),
        )
        if way == "connect":
            await_port(self.address(node))
