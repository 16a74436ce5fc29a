"""A fleet that `swiftops demo --runtime container --keep` has made, for tests to look at."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyswiftops.demo.run import RUN_ID, DemoFiles
from pyswiftops.specs.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
NAME, AUTHOR = 'Ada "小智"', "O'Neill & 团队"


def run(*words: str, check: bool = True, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    """A program, with what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0 or not check, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done


def swiftops(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return run(sys.executable, "-m", "pyswiftops.cli.main", *map(str, words), check=check)


def docker(*words: str, check: bool = True) -> str:
    """What the docker client prints."""
    return run("docker", *words, check=check).stdout.strip()


def labelled(kind: str, fleet: str) -> list[str]:
    """Names of what carries the fleet's label: container, network, volume, image."""
    words = {
        "container": ["ps", "--all", "--format", "{{.Names}}"],
        "network": ["network", "ls", "--format", "{{.Name}}"],
        "volume": ["volume", "ls", "--format", "{{.Name}}"],
        "image": ["images", "--format", "{{.Repository}}:{{.Tag}}"],
    }[kind]
    return docker(*words, "--filter", f"label=swiftops.fleet={fleet}").split()


@dataclass(frozen=True)
class Made:
    """The fleet, made and trained on.

    Attributes:
        files: Where everything of it lies.
    """

    files: DemoFiles

    @property
    def fleet(self) -> Fleet:
        """As its file says."""
        return Fleet.load(self.files.fleet)

    @property
    def path(self) -> Path:
        """The fleet file."""
        return self.files.fleet

    @property
    def run(self) -> dict[str, Any]:
        """What is recorded of the demo's run."""
        state: dict[str, Any] = json.loads(
            (self.files.runs / RUN_ID / "run.json").read_text(encoding="utf-8")
        )
        return state

    def container(self, node: str) -> str:
        """The name of a node's container."""
        return f"swiftops-{self.fleet.name}-{node}"

    def on(self, node: str, *words: str, check: bool = True) -> str:
        """What a program prints on a node, through ssh as the controller does it."""
        config = str(self.files.state / "ssh_config")
        return run("ssh", "-F", config, node, shlex.join(words), check=check).stdout.strip()

    def inside(self, node: str, *words: str, check: bool = True) -> str:
        """What a program prints in a node's container, past ssh."""
        return docker("exec", self.container(node), *words, check=check)

    def up(self, path: Path | None = None, *, check: bool = True) -> dict[str, int]:
        """`swiftops up`; machine -> how many tasks changed it."""
        done = swiftops("up", "-i", path or self.path, "--json", check=check)
        changed: dict[str, int] = json.loads(done.stdout)["changed"]
        return changed

    def with_nodes(self, folder: Path, count: int) -> Path:
        """The same fleet with another number of nodes, as a file."""
        document = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        document["nodes"] = [{"name": f"node-{number + 1}"} for number in range(count)]
        path = folder / "fleet.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


def make() -> Made:
    """The fleet of `make demo-fleet KEEP=1`, made here where it is not there already."""
    made = Made(DemoFiles(Path(os.environ.get("DEMO_FLEET", ROOT / "demo-fleet")).resolve()))
    try:
        there = made.run["state"] == "succeeded" and len(labelled("container", "demo")) == 2
    except OSError:
        there = False
    if not there:
        swiftops(
            *("demo", "--runtime", "container", "--keep", "--folder", made.files.folder),
            *("--name", NAME, "--author", AUTHOR),
        )
    return made
