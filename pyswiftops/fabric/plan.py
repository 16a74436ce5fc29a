"""The jobs of a check, and what to make of what they left: pure, asked by the role and the SDK."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.fabric import readings, schedule, verdicts
from pyswiftops.fabric.report import FabricReport, parse_size
from pyswiftops.fabric.schedule import Round
from pyswiftops.paths import FabricFolder
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.context import Context
from pyswiftops.stages.node import NodeFacts
from pyswiftops.stages.render import context

SIZES = {"gloo": ("1K", "64K", "1M", "16M"), "nccl": ("1K", "64K", "1M", "16M", "256M")}
BUDGET = 0.25  # seconds that a message size is repeated for
ALL_PAIRS = 32  # up to so many nodes every pair is measured
HEALTHY = 2  # nodes that suspects are measured against
PAIRS = ("auto", "all", "few")
PROGRAM = ("__init__.py", "counters.py", "measuring.py", "meeting.py", "ranks.py")
STARTED = ("MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK", "NPROC_PER_NODE")


@dataclass(frozen=True)
class Options:
    """How to check.

    Attributes:
        sizes: Message sizes such as ``1M``; those of the backend where there are none.
        seconds: How long a round may take.
        grace: How long others may take to start.
        pairs: ``all``, ``few`` (bisection), or ``auto``: all up to 32 nodes.
        least: GB/s that every link must reach; 0: nobody said.
        gpudirect: Whether RDMA without GPUDirect is a fault.
        env: More variables of the job, as ``training.env`` of a run file.
    """

    sizes: tuple[str, ...] = ()
    seconds: float = 30
    grace: float = 20
    pairs: str = "auto"
    least: float = 0.0
    gpudirect: bool = True
    env: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        wrong = [size for size in self.sizes if parse_size(size) is None]
        if wrong:
            raise BadInputError(
                Finding(
                    "message sizes of 4 bytes to 8G, such as 64K or 16M",
                    ", ".join(map(repr, wrong)),
                    "--sizes",
                    "for instance --sizes 1K,1M,64M",
                )
            )
        if self.pairs not in PAIRS:
            raise BadInputError(
                Finding(", ".join(PAIRS), repr(self.pairs), "--pairs", "name one of them")
            )
        for name, value in (("--timeout", self.seconds), ("--least", self.least)):
            if value < 0 or (name == "--timeout" and value < 1):
                raise BadInputError(Finding("a larger number", str(value), name, "give another"))

    def bytes(self, backend: str) -> list[int]:
        """The sizes in bytes, ascending."""
        found = {parse_size(size) for size in self.sizes or SIZES[backend]}
        return sorted(size for size in found if size is not None)


def chosen(variables: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The nodes to check, in rank order.

    Args:
        variables: Node -> its variables, all of the fleet.
        names: Those that are wanted; all where there are none.

    Raises:
        BadInputError: one is unknown, or there is nothing to measure between.
    """
    unknown = [name for name in names if name not in variables]
    if unknown:
        raise BadInputError(
            Finding(
                f"nodes: {', '.join(variables)}", ", ".join(unknown), "--nodes", "name some of them"
            )
        )
    found = [node for node in variables if not names or node in names]
    ranks = [NodeFacts.from_vars(node, variables[node]).ranks for node in found]
    if len(found) == 1 and ranks[0] == 1:
        raise BadInputError(
            Finding("two nodes, or one with two GPUs", found[0], "--nodes", "name another one")
        )
    return found


def backend_of(node: NodeFacts) -> str:
    """What the ranks of a node talk by."""
    return "nccl" if node.device == "gpu" else "gloo"


def places(
    variables: Mapping[str, Mapping[str, Any]], leases: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """Node -> address and port that it listens on; nodes that leased none are left out."""
    ports = {node: (told.get("known") or {}).get("lease.fabric") for node, told in leases.items()}
    return {
        node: [variables[node]["swiftops_address"], int(port)]
        for node, port in ports.items()
        if port
    }


def silent(leases: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Nodes that leased no port, as a look has them that told nothing."""
    return {
        node: {"error": str(told.get("msg") or "it could not be reached").strip()}
        for node, told in leases.items()
        if not (told.get("known") or {}).get("lease.fabric")
    }


def first_rounds(nodes: Sequence[str], options: Options) -> list[Round]:
    """The rounds of the first look."""
    every = options.pairs == "all" or (options.pairs == "auto" and len(nodes) <= ALL_PAIRS)
    return schedule.rounds(nodes, pairs=every)


def requests(
    variables: Mapping[str, Mapping[str, Any]],
    where: Mapping[str, Sequence[Any]],
    rounds: Sequence[Round],
    options: Options,
    check: str,
) -> dict[str, dict[str, Any]]:
    """What the module ``job`` is given, by node.

    Args:
        variables: Node -> its variables.
        where: From :func:`places`.
        rounds: Who measures with whom.
        options: How.
        check: The name of this look at the fleet.

    Raises:
        BadInputError: a variable is missing or wrong.
    """
    asked = {node for groups in rounds for group in groups for node in group["nodes"]}
    nodes = tuple(NodeFacts.from_vars(node, variables[node]) for node in where if node in asked)
    if not nodes:
        return {}
    shared = context(RunSpec.model_construct(), "check-fabric", nodes)
    backend = backend_of(nodes[0])
    common = {
        "check": check,
        "places": {node: list(place) for node, place in where.items()},
        "ranks": {node.name: node.ranks for node in nodes},
        "rounds": list(rounds),
        "backend": backend,
        "sizes": options.bytes(backend),
        "budget": BUDGET,
        "seconds": options.seconds,
        "grace": options.grace,
    }
    return {node.name: _request(shared, node, common, options) for node in nodes}


def _request(
    shared: Context, node: NodeFacts, common: Mapping[str, Any], options: Options
) -> dict[str, Any]:
    folder = FabricFolder(node.root)
    env = {
        **shared.environment(node),
        **shared.threads(node),
        **shared.launcher(node, shared.nodes),
        **(options.env or {}),
    }
    program = files("pyswiftops.fabric.node")
    asked = {**common, "node": node.name, "result": folder.result}
    return {
        "argv": [node.python, "-m", "node.measuring", folder.request],
        "env": {name: value for name, value in env.items() if name not in STARTED},
        "path": [node.bin],
        "cwd": folder.work,
        "make_directories": [str(env["TMPDIR"]), folder.program],
        "files": {
            folder.request: json.dumps(asked),
            **{
                f"{folder.program}/{name}": (program / name).read_text(encoding="utf-8")
                for name in PROGRAM
            },
        },
        "hide": list(node.hidden),
        "directory": folder.job,
        "result": folder.result,
    }


def told(
    nodes: Sequence[str],
    starts: Mapping[str, Mapping[str, Any]],
    ends: Mapping[str, Mapping[str, Any]],
    slurped: Mapping[str, Mapping[str, Any]],
    check: str,
) -> dict[str, dict[str, Any]]:
    """Node -> what its program wrote in this look, or ``error`` alone.

    Args:
        nodes: All that were to measure.
        starts: What the module ``job`` said when it was started.
        ends: What it said at the end.
        slurped: The file that the program left, as the module ``slurp`` brings it.
        check: As it was asked.
    """
    found = {}
    for node in nodes:
        start, end = starts.get(node, {}), ends.get(node, {})
        result: dict[str, Any] = {}
        if slurped.get(node, {}).get("content"):
            result = json.loads(base64.b64decode(slurped[node]["content"]))
        if result.get("check") == check:
            found[node] = result if result.get("ended") else {**result, **_error(end)}
        elif start.get("skipped"):
            continue
        elif start.get("unreachable"):
            found[node] = {"error": str(start.get("msg") or "it could not be reached").strip()}
        elif start.get("failed"):
            found[node] = {"error": str(start.get("msg", "its job could not be started"))}
        elif not start.get("changed"):
            found[node] = {"error": "another check-fabric runs there; wait until it has ended"}
        else:
            found[node] = _error(end)
    return found


def _error(end: Mapping[str, Any]) -> dict[str, Any]:
    reason = (end.get("reason") or {}).get("detail") or end.get("msg") or end.get("state")
    tail = [line for line in end.get("log_tail") or () if line.strip()]
    return {"error": " | ".join([f"its job ended early: {reason}", *tail[-3:]])}


def hosts(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Node -> the machine that it is on."""
    return {
        node: "here"
        if told.get("swiftops_runtime") == "local"
        else told.get("swiftops_host") or node
        for node, told in variables.items()
    }


def judged(
    variables: Mapping[str, Mapping[str, Any]],
    nodes: Sequence[str],
    looks: Sequence[Mapping[str, Mapping[str, Any]]],
    options: Options,
    seconds: float = 0.0,
) -> FabricReport:
    """What came of all looks."""
    found, limits = _read(variables, nodes, looks, options)
    return FabricReport(found, tuple(verdicts.faults(found, limits)), seconds)


def second_rounds(
    variables: Mapping[str, Mapping[str, Any]],
    nodes: Sequence[str],
    looks: Sequence[Mapping[str, Mapping[str, Any]]],
    options: Options,
) -> list[Round]:
    """What to look at once more before anything is named; none where nothing seems bad.

    Where not all pairs were measured, the members of the smallest bad groups meet one another and
    two nodes that seem well.
    """
    found, limits = _read(variables, nodes, looks, options)
    pairs = verdicts.suspects(found, limits)
    if first_rounds(nodes, options) == schedule.rounds(nodes, pairs=True):
        return schedule.again(pairs)
    bad = {node for pair in pairs for node in pair} | set(verdicts.bad_groups(found))
    if not bad:
        return []
    well = [node for node in nodes if node not in bad and node not in found.silent][:HEALTHY]
    some = [node for node in nodes if node in {*bad, *well} and node not in found.silent]
    return [schedule.of_pairs(round_) for round_ in schedule.tournament(some)]


def _read(
    variables: Mapping[str, Mapping[str, Any]],
    nodes: Sequence[str],
    looks: Sequence[Mapping[str, Mapping[str, Any]]],
    options: Options,
) -> tuple[readings.Readings, verdicts.Limits]:
    backend = backend_of(NodeFacts.from_vars(nodes[0], variables[nodes[0]]))
    limits = verdicts.Limits(
        hosts({node: variables[node] for node in nodes}), options.least * 1e9, options.gpudirect
    )
    return readings.read(nodes, backend, looks), limits
