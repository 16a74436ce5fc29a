"""What a fault is, and ways to put one into facts that were in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyswiftops.content import module_util
from pyswiftops.preflight.finding import Severity
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.preflight import Check
from pyswiftops.specs.run import RunSpec

from .healthy import GIB, Facts, fleet, on_a_host

RECORDED = Path(__file__).resolve().parents[2] / "recorded" / "preflight"
BLOCK, WARN, NOTE = Severity.BLOCK, Severity.WARN, Severity.NOTE
ONE, TWO = "node-1", "node-2"


@dataclass(frozen=True)
class Fault:
    """A fault, and what the preflight must say.

    Attributes:
        check: Which check finds it.
        severity: How bad it is.
        says: Words of the finding.
        put: Puts it into the facts of all nodes.
        node: Where it must be found.
        fleet: The fleet, where it is another than usual.
        spec: The run.
    """

    check: Check
    severity: Severity
    says: tuple[str, ...]
    put: Callable[[dict[str, Facts]], None]
    node: str = TWO
    fleet: Fleet = field(default_factory=fleet)
    spec: RunSpec | None = None


OFF, ON = False, True


def at(path: str, value: Any, node: str = TWO) -> Callable[[dict[str, Facts]], None]:
    """Set a fact of a node: keys with slashes between them."""

    def put(facts: dict[str, Facts]) -> None:
        place: Any = facts[node]
        *folders, last = path.split("/")
        for key in folders:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = value

    return put


def put_all(*puts: Callable[[dict[str, Facts]], None]) -> Callable[[dict[str, Facts]], None]:
    """Several changes as one."""

    def put(facts: dict[str, Facts]) -> None:
        for one in puts:
            one(facts)

    return put


def recorded(name: str) -> str:
    """What a real machine printed."""
    return (RECORDED / name).read_text(encoding="utf-8")


def log(name: str, node: str = TWO) -> Callable[[dict[str, Facts]], None]:
    """A recorded kernel log, read by the node's own parser."""
    told = module_util("preflight.kernel_log").parse(recorded(name))
    return at("kernel_log", {"error": "", **told}, node)


def kernel(text: str) -> Callable[[dict[str, Facts]], None]:
    return at("kernel_log", {"error": "", **module_util("preflight.kernel_log").parse(text)})


def gone(facts: dict[str, Facts]) -> None:
    del facts[TWO]


def lost_port(why: str) -> Callable[[dict[str, Facts]], None]:
    """No node reaches the second port of node-2."""

    def put(facts: dict[str, Facts]) -> None:
        for name, told in facts.items():
            if name != TWO:
                told["meeting"]["peers"][TWO]["ports"]["40001"] = why

    return put


def other_driver(facts: dict[str, Facts]) -> None:
    """Module, library and fabric manager of node-2 are of another version, and fit together."""
    told = facts[TWO]
    for one in told["gpus"]["gpus"]:
        one["driver"] = "535.129.03"
    told["gpus"]["kernel_module"] = "535.129.03"
    told["services"]["fabric_manager"]["version"] = "535.129.03"


def on_gpu(pid: int, gib: float, **who: str) -> dict[str, Any]:
    return {"pid": pid, "gpu": "GPU-3", "memory_bytes": int(gib * GIB), "program": "python", **who}


def job(state: str) -> list[dict[str, str]]:
    return [{"directory": "/d", "run_id": "old", "job": "train", "marker": "m", "state": state}]


CONTAINERS = fleet(runtime="container")
HOST = "host-1"
ON_A_HOST = on_a_host(HOST)


def input_of(path: str, told: Facts) -> Callable[[dict[str, Facts]], None]:
    """Set what a node tells of a file or folder that the run names."""
    return lambda facts: facts[TWO]["inputs"].update({path: told})


SHARED = fleet(shared_paths=["/shared"])
PROXY = {"proxies": {"http_proxy": "http://proxy:3128"}, "no_proxy": ["localhost", "127.0.0.1"]}
ENGINE = {
    "docker": True,
    "error": "",
    "cgroup_driver": "systemd",
    "nvidia_runtime": True,
    "cdi": False,
    "no_cgroups": False,
    "char_links": False,
    "cgroup_version": 2,
    "systemd": True,
}
