"""What a user does about checkpoints on the lab's nodes: the command line, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.container_nodes import Nodes

from .lab import Lab


@dataclass(frozen=True)
class Said:
    """How a command ended.

    Attributes:
        code: Its exit code.
        out: What it printed.
        err: What it printed on standard error, as one line.
    """

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        """What ``--json`` prints."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass
class User:
    """Whoever types ``swiftops ckpt`` on the controller.

    Attributes:
        lab: The nodes, with a new checkpoint.
        folder: Of fleet files and of what was adopted.
    """

    lab: Lab
    folder: Path

    @property
    def nodes(self) -> Nodes:
        """The containers."""
        return self.lab.nodes

    def fleet(self, **changes: Any) -> Path:
        """A fleet file of the nodes, whose Python is Debian's."""
        document = yaml.safe_load(self.nodes.inventory.read_text(encoding="utf-8"))
        document |= {"python": "/usr/bin/python3", "root": "/data/swiftops", **changes}
        path = self.folder / "fleet.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Begin a command of ``swiftops ckpt``, in a process group of its own."""
        argv = [sys.executable, "-m", "pyswiftops.cli.main", "ckpt", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*argv, "--runs", str(self.folder / "runs")],
            stdout=pipe,
            stderr=pipe,
            text=True,
            env={**self.nodes.environment(), "COLUMNS": "1000"},
            start_new_session=True,
        )

    def ckpt(self, *words: str | Path) -> Said:
        """A command of ``swiftops ckpt``, to its end."""
        job = self.start(*words)
        out, err = job.communicate(timeout=120)
        return Said(job.returncode, out, " ".join(err.split()))

    def adopt(self, name: str, below: str = "", **changes: Any) -> Said:
        """Adopt each node's own folder, or one in it, under a name."""
        places = [f"{node}:/data/{node}{below}" for node in self.nodes.names]
        return self.ckpt("adopt", name, "-i", self.fleet(**changes), *places)

    def gather(self, *options: str, name: str = "old", to: str | Path = "node-1:") -> Said:
        """Gather it into the target; ``to`` may be another node with ``:``, or a whole place."""
        place = f"{to}/data/target/checkpoint-10" if str(to).endswith(":") else str(to)
        return self.ckpt("gather", name, "--to", place, *options)

    def refused(self, *texts: str, options: Sequence[str] = ()) -> None:
        """It ends with exit code 2 and these texts, and nothing is at the target."""
        said = self.gather(*options)
        assert said.code == 2, said
        for text in ("expected: ", "remedy: ", *texts):
            assert text in said.err, said
        assert not self.lab.dest.parent.exists()

    def gathered(self, *options: str) -> int:
        """It succeeds, and the target is whole; bytes that were sent."""
        told = self.gather("--json", *options).told
        assert self.lab.whole()
        return int(told["moved"])


def end_with_children(job: subprocess.Popen[str]) -> None:
    """SIGKILL a command and all that it started, in whatever process groups they are."""
    pids, found = {job.pid}, True
    while found:
        found = set(_processes(pids.__contains__)) - pids
        pids |= found
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    job.communicate(timeout=30)


def _processes(has: Callable[[int], bool]) -> list[int]:
    """Those whose parent is so."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if has(int(text.rpartition(")")[2].split()[1])):
            pids.append(int(path.parent.name))
    return pids


def until(what: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
