"""One pass of the demo on the embedded fleet, which the tests of this folder look at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyswiftops.client import Client
from pyswiftops.demo.run import RUN_ID, DemoFiles, DemoOptions, clear, prepare
from pyswiftops.events import Event
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

NAME, AUTHOR = 'Ada "小智"', "O'Neill & 团队"


@dataclass
class Trained:
    """The demo after training, before gather."""

    files: DemoFiles
    fleet: Fleet
    spec: RunSpec
    client: Client
    events: list[Event]

    def node(self, number: int) -> Path:
        """The run's files on a node."""
        return self.files.nodes / f"node-{number}" / "runs" / RUN_ID

    def apply(self, *stages: str) -> None:
        """Run stages of the plan."""
        plan = self.client.plan(self.fleet, self.spec)
        self.client.apply(plan, stages=stages, on_event=self.events.append)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """The demo up to the end of training, on two local nodes."""
    folder = tmp_path_factory.mktemp("demo")
    files, fleet, spec = prepare(DemoOptions(NAME, AUTHOR, folder))
    demo = Trained(files, fleet, spec, Client(files.runs), [])
    demo.apply("data", "convert", "infer", "roundtrip", "compare", "train")
    yield demo
    clear(files)


def running(pids: Iterable[int]) -> list[int]:
    """Those that run; a zombie, which waits for init to take note of its end, does not."""
    found = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if stat.rpartition(")")[2].split()[0] not in "ZX":
            found.append(pid)
    return found


def swiftops(*arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return subprocess.run(
        [sys.executable, "-m", "pyswiftops.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
