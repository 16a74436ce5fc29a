"""Facts of a fleet in order, as the module tells them, for faults to be put into."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pyswiftops.matrix import row
from pyswiftops.preflight.asked import Asked
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

GIB = 1 << 30
LINE = "4.6"
Facts = dict[str, Any]


def fleet(nodes: int = 3, gpus: int = 8, **more: Any) -> Fleet:
    """A fleet of GPU machines."""
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "host",
        "line": LINE,
        "root": "/data/swiftops",
        "nodes": [
            {"name": f"node-{n + 1}", "address": f"10.0.0.{n + 1}", "gpus": gpus}
            for n in range(nodes)
        ],
        **more,
    }
    return Fleet.from_document(document, Path("fleet.yml"))


def on_a_host(host: str) -> Fleet:
    """A fleet of two containers on one host."""
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "name": "lab",
        "runtime": "container",
        "line": LINE,
        "hosts": [{"name": host}],
        "container": {"image": {"build": {"wheelhouse": "wheels"}}},
        "nodes": [{"name": f"node-{n + 1}", "gpus": [2 * n, 2 * n + 1]} for n in range(2)],
    }
    return Fleet.from_document(document, Path("fleet.yml"))


def run(**more: Any) -> RunSpec:
    """A run of that fleet."""
    document = {
        "name": "r",
        "model": {"path": "/models/m"},
        "data": {"train": ["/data/rows.jsonl"]},
        "training": {"iterations": 100, "save_every": 10},
        **more,
    }
    return RunSpec.from_document({"run": document}, Path("run.yml"))


def asked(made: Fleet | None = None, spec: RunSpec | None = None) -> Asked:
    """What is asked of its nodes."""
    return Asked.of((made or fleet()).host_vars(), spec)


def packages() -> Facts:
    """What a node of the line has, in its own folder."""
    root = "/opt/swift/lib"
    found = {
        name: {
            "version": package.pin or package.recommended or "1.0",
            "root": root,
            "module": f"{root}/{name}/__init__.py",
            "editable": False,
        }
        for name, package in row(LINE).packages.items()
        if name in {"ms-swift", "mcore-bridge", "torch", "transformers", "peft", "trl"}
    }
    return {"python": "3.11.9", "packages": found}


def gpu(index: int) -> Facts:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA H100 80GB HBM3",
        "memory_bytes": 80 * GIB,
        "driver": "550.54.15",
        "uncorrected": 0,
        "mig": False,
        "persistence": True,
        "pending": False,
        "failure": False,
    }


def disk(path: str) -> Facts:
    return {
        "path": path,
        "place": path,
        "exists": True,
        "filesystem": "m:1",
        "mount": {"point": "/data", "type": "xfs", "source": "/dev/nvme0n1"},
        "free": 5000 * GIB,
        "total": 7000 * GIB,
        "inodes_free": 10**8,
        "writable": True,
        "error": "",
    }


def services() -> Facts:
    return {
        "unattended_upgrades": {"installed": True, "on": False, "leaves_nvidia": False},
        "fabric_manager": {"version": "550.54.15"},
        "engine": {"docker": False, "error": ""},
    }


def below() -> Facts:
    return {
        "gpus": {"drivers": ["550.54.15"]},
        "kernel_log": {"error": "", "xid": [], "other": []},
        "services": services(),
    }


def facts(wanted: Asked) -> dict[str, Facts]:
    """Node, and host below containers, -> its facts, all in order."""
    names = wanted.names
    found: dict[str, Facts] = {name: below() for name in wanted.hosts}
    for node in wanted.nodes:
        peers = {
            name: {
                "ports": {"20001": "", "40001": ""},
                "offset": [0.0002, 0.001],
                "came": [20001, 40001],
                "there": True,
                "shared": dict.fromkeys(wanted.shared, True),
                "sees_root": False,
            }
            for name in names
            if name != node.name
        }
        no_proxies = {"proxies": {}, "no_proxy": []}
        found[node.name] = {
            "clock": {"began": 0.0, "ended": 1.0},
            "shm": {"size": 128 * GIB, "free": 128 * GIB, "error": ""},
            "disks": {"root": disk(node.root), "tmp": disk("/tmp")},  # noqa: S108 a name
            "memory": {"total": 1000 * GIB, "available": 900 * GIB, "limit": 0},
            "inputs": {
                path: {"bytes": 4000, "rows": 10, "blake2b": "0123456789abcdef"}
                for path in wanted.inputs
            },
            "model": {"bytes": 15 * GIB, "dtype": "bfloat16"},
            "limits": {
                "limits": {
                    "memlock": [-1, -1],
                    "nofile": [1048576, 1048576],
                    "nproc": [-1, -1],
                    "stack": [8388608, -1],
                },
                "user": 1000,
                "infiniband": ["mlx5_0"],
                "ipc_lock": False,
                "pids_max": None,
                "threads_max": 4000000,
                "processors": 96,
            },
            "gpus": {
                "program": "/usr/bin/nvidia-smi",
                "error": "",
                "gpus": [gpu(index) for index in range(8)],
                "cuda": "12.4",
                "kernel_module": "550.54.15",
                "processes": [],
            },
            "kernel_log": {"error": "", "xid": [], "other": []},
            "names": {
                "hostname": node.name,
                "own": {"addresses": [node.address], "error": ""},
                "localhost": {"addresses": ["127.0.0.1"], "error": ""},
                "peers": {},
                "hosts": {},
                "addresses": ["127.0.0.1", node.address],
                "login": copy.deepcopy(no_proxies),
                "jobs": copy.deepcopy(no_proxies),
            },
            "services": services(),
            "ports": [],
            "packages": packages(),
            "machine": {"kernel": "6.8", "architecture": "x86_64", "variables": {}},
            "processes": {
                "jobs": [],
                "marked": {},
                "gpu": [],
                "pids_are_the_machines": True,
                "shm": {"count": 0, "bytes": 0, "names": []},
            },
            "meeting": {
                "peers": peers,
                "listening": {"20001": "", "40001": ""},
                "shared_failed": {},
                "seconds": 0.1,
            },
        }
    return found
