"""A small image and throwaway fleets of containers, with real Docker."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pyswiftops.runner import PlaybookResult, run_playbook

WHEEL = """\
Wheel-Version: 1.0
Generator: test
Root-Is-Purelib: true
Tag: py3-none-any
"""


def docker(*argv: str) -> str:
    """Run docker; return what it printed."""
    done = subprocess.run(["docker", *argv], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"docker {argv}: {done.stderr}"
    return done.stdout.strip()


def inspected(name: str) -> dict[str, Any]:
    """What Docker knows of a container."""
    return dict(json.loads(docker("inspect", name))[0])


@dataclass
class Lab:
    """A fleet of containers on this machine, under a name of its own."""

    folder: Path
    name: str
    subnet: str
    document: dict[str, Any] = field(default_factory=dict)

    def container(self, node: str) -> str:
        """How Docker knows a node."""
        return f"swiftops-{self.name}-{node}"

    def write(self, **changes: Any) -> Path:
        """The fleet file, with other keys of ``container``, or other nodes."""
        nodes = changes.pop("nodes", self.document["nodes"])
        container = {**self.document["container"], **changes}
        path = self.folder / "fleet.yml"
        path.write_text(
            yaml.safe_dump({**self.document, "container": container, "nodes": nodes}),
            encoding="utf-8",
        )
        return path

    def play(self, playbook: str, *, expect: bool = True, **changes: Any) -> PlaybookResult:
        """Run a playbook on the fleet file, with other keys of ``container`` for this time."""
        extra = changes.pop("variables", {})
        path = self.write(**changes)
        folder = self.folder / "runner"
        shutil.rmtree(folder, ignore_errors=True)
        done = run_playbook(playbook, path, folder, extra, forks=5)
        assert done.ok is expect, done.stdout and done.stdout.read_text(encoding="utf-8")[-6000:]
        return done

    def why(self, playbook: str, **changes: Any) -> str:
        """What a playbook that must fail says."""
        done = self.play(playbook, expect=False, **changes)
        assert done.stdout is not None
        return done.stdout.read_text(encoding="utf-8")

    def ids(self) -> dict[str, str]:
        """Name -> id of the fleet's containers, running or not."""
        said = docker(
            "ps", "--all", "--no-trunc", f"--filter=label=swiftops.fleet={self.name}",
            "--format={{.Names}} {{.ID}}",
        )  # fmt: skip
        return dict(line.split() for line in said.splitlines())

    def left(self) -> dict[str, list[str]]:
        """Everything that Docker holds of the fleet."""
        label = f"--filter=label=swiftops.fleet={self.name}"
        return {
            "containers": docker("ps", "--all", "--quiet", label).split(),
            "networks": docker("network", "ls", "--quiet", label).split(),
            "volumes": sorted(docker("volume", "ls", "--quiet", label).split()),
            "images": docker("image", "ls", "--quiet", f"swiftops/{self.name}").split(),
        }


def _wheel(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(f"{info}/WHEEL", WHEEL)
        file.writestr(f"{info}/RECORD", "")
    return path


def small_wheelhouse(folder: Path, version: str = "1.0", line: str = "4.6") -> Path:
    """A wheelhouse of two empty packages, so that an image of it is built quickly."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (_wheel(packages, "small", version), _wheel(folder, "pyswiftops", version))
    }
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    index = {"line": line, "python": python, "platform": "any", "requirements": ["small"]}
    (folder / "wheelhouse.json").write_text(json.dumps({**index, "files": files}), encoding="utf-8")
    return folder


@contextmanager
def small_lab(folder: Path) -> Iterator[Lab]:
    """Two containers' worth of a fleet file; what is made of it is taken down at the end."""
    lab = Lab(folder, f"lab-{os.getpid()}", "172.30.71.0/24")
    lab.document = {
        "plugin": "pyswiftops.fleet.fleet",
        "name": lab.name,
        "runtime": "container",
        "device": "cpu",
        "state": str(folder / "state"),
        "container": {
            "image": {"build": {"wheelhouse": str(small_wheelhouse(folder / "wheelhouse"))}},
            "network": {"subnet": lab.subnet},
            "shm_size": "64m",
            "mounts": {"models": str(folder / "models")},
        },
        "hosts": [{"name": "host-1"}],
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    try:
        yield lab
    finally:
        lab.play("teardown", variables={"teardown_data": True, "teardown_force": True})
