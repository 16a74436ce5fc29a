"""The SDK's gather: asks the nodes, plans, has the target's node bring it, and proves it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyswiftops.errors import BadInputError, Finding, StageFailedError
from pyswiftops.nodes import Nodes
from pyswiftops.paths import GatherFolder
from pyswiftops.planner.gathering import (
    Chosen,
    GatherPlan,
    Options,
    Target,
    choose,
    plan_gather,
    reach,
)
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import write_json

CONTROLLER = "controller"


@dataclass(frozen=True)
class Gathered:
    """What a gather did.

    Attributes:
        name: The checkpoint, as ``swiftops ckpt ls`` shows it.
        target: Where it is now.
        plan: What was to be brought, a sentence each.
        bytes: Of the files that this gather was about.
        moved: Bytes that were sent.
        seconds: How long it took on the target's node; 0 where it was only planned.
    """

    name: str
    target: Target
    plan: tuple[str, ...]
    bytes: int = 0
    moved: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def target_of(fleet: Fleet, to: str, name: str, chosen: Chosen, options: Options) -> Target:
    """Where a gather goes.

    Args:
        fleet: The machines.
        to: ``NODE``, ``controller``, ``NODE:/FOLDER`` or ``controller:/FOLDER``; a folder's name
            becomes the checkpoint's.
        name: The run's id, or the name of adopted folders.
        chosen: The checkpoint.
        options: How.

    Raises:
        BadInputError: there is no such node, or the folder is no absolute one.
    """
    node, _, folder = to.partition(":")
    known = [item.name for item in fleet.nodes]
    if node not in {*known, CONTROLLER} or (folder and not folder.startswith("/")):
        raise BadInputError(
            Finding(
                f"{', '.join([*known, CONTROLLER])}, or one of them with :/FOLDER",
                repr(to),
                "--to",
                "name one of them",
            )
        )
    if folder:
        return Target(node, folder)
    if node == CONTROLLER:
        return Target(node, chosen.place(node, str(Path("gathered", name).resolve()), options))
    gathered = GatherFolder(fleet.node_root(_node(fleet, node)), name).checkpoints
    return Target(node, chosen.place(node, gathered, options))


def _node(fleet: Fleet, name: str) -> Any:
    return next(item for item in fleet.nodes if item.name == name)


def plan(
    fleet: Fleet,
    told: Mapping[str, Mapping[str, Any]],
    name: str,
    *,
    checkpoint: str,
    to: str,
    options: Options,
) -> tuple[Chosen, GatherPlan]:
    """What a gather would bring.

    Args:
        fleet: The machines.
        told: node -> what the module ``checkpoint_ledger`` returned.
        name: The run's id, or the name of adopted folders.
        checkpoint: Its name; "" for the newest.
        to: See :func:`target_of`.
        options: How.

    Raises:
        BadInputError: it would not be whole, or the target is none.
    """
    chosen = choose(told, checkpoint, time.time())
    target = target_of(fleet, to, name, chosen, options)
    controller = target.node == CONTROLLER
    ways = {
        node: reach(variables, controller=controller)
        for node, variables in fleet.host_vars().items()
    }
    if target.node in ways:
        ways[target.node]["remote"] = None
    return chosen, plan_gather(chosen.copies, ways, target, options)


def carry_out(
    fleet: Fleet, name: str, found: GatherPlan, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Have it brought; returns what the program of the gather answered.

    Args:
        fleet: The machines.
        name: The run's id, or the name of adopted folders.
        found: The plan.
        tell: Called with a sentence of progress, at most about every second.

    Raises:
        StageFailedError: it could not be brought; what has arrived is kept.
    """
    if found.target.node == CONTROLLER:
        return _to_controller(found, tell)
    folder = GatherFolder(fleet.node_root(_node(fleet, found.target.node)), name)
    asked = {
        "name": name,
        "node": found.target.node,
        "request": dict(found.request),
        "job": folder.job,
        "folder": folder.requests,
    }
    said: set[str] = set()

    def listen(result: ModuleResult) -> None:
        for line in result.data.get("log_tail") or ():
            if line.startswith("gather: ") and line not in said:
                said.add(line)
                tell(line)

    files = {"swiftops_gather_file": asked}
    result = Nodes(fleet).play("checkpoints.gather", {}, files, on_result=listen)
    if not result.ok:
        failure = result.failures[-1]
        raise StageFailedError(
            "ckpt gather", failure.node, str(failure.data.get("msg", failure.data))
        )
    info = result.data("checkpoint_info").get(found.target.node, {})
    answer: dict[str, Any] = info.get("gathered") or {}
    return answer


def _to_controller(found: GatherPlan, tell: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="swiftops-") as folder:
        request = Path(folder, "request.json")
        write_json(request, dict(found.request))
        argv = [sys.executable, "-m", "pyswiftops.checkpoints.receive", str(request)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout or ():
            if line.startswith("gather: "):
                tell(line.rstrip())
        errors = (process.stderr.read() if process.stderr else "").strip()
        if process.wait():
            raise StageFailedError("ckpt gather", CONTROLLER, errors.removeprefix("error: "))
        answer: dict[str, Any] = json.loads(request.with_suffix(".answer").read_text("utf-8"))
        return answer
