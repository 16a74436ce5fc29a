"""The SDK's gather: asks the nodes, plans, has the target's node bring it, and proves it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pyswiftops.checkpoints.ledger import ADOPTED
from pyswiftops.checkpoints.merging import make_ledger
from pyswiftops.errors import BadInputError, Finding, StageFailedError
from pyswiftops.nodes import Nodes
from pyswiftops.paths import GatherFolder
from pyswiftops.planner.fetching import reach
from pyswiftops.planner.gathering import (
    Chosen,
    GatherPlan,
    Options,
    Target,
    choose,
    plan_gather,
)
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import write_json

CONTROLLER = "controller"
START = "Start the gather"  # a task of the role gather


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
        removed: Node -> folders that were removed there, where that was asked for.
    """

    name: str
    target: Target
    plan: tuple[str, ...]
    bytes: int = 0
    moved: int = 0
    seconds: float = 0.0
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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


def rate_of(fleet: Fleet, found: GatherPlan) -> float:
    """Bytes a second that a gather would move, by bringing the beginning of it; 0: nothing to.

    Raises:
        StageFailedError: a source does not answer.
    """
    if not found.request["parts"]:
        return 0.0
    answer: Mapping[str, Any]
    if found.target.node == CONTROLLER:
        answer = _here(found, "--probe", lambda _line: None)
    else:
        files = {"swiftops_gather_file": {"node": found.target.node, "request": found.request}}
        result = Nodes(fleet).play("checkpoints.probe", {}, files)
        if not result.ok:
            failure = result.failures[-1]
            message = str(failure.data.get("msg", failure.data))
            raise StageFailedError("ckpt gather --plan", failure.node, message)
        answer = result.data("gather_probe")[found.target.node]
    return float(answer["bytes"]) / float(answer["seconds"])


def for_good(options: Options) -> Options:
    """Options of a gather whose sources are removed then.

    Raises:
        BadInputError: only weights would be left.
    """
    if options.weights_only:
        raise BadInputError(
            Finding(
                "a whole checkpoint where its sources are removed",
                "weights only",
                "--delete-sources",
                "leave out one of --weights-only and --delete-sources",
            )
        )
    return replace(options, sync=True)


def require_stand_in(target: Target, stands: list[Mapping[str, Any]]) -> None:
    """What the target holds can be resumed and exported by itself.

    Raises:
        StageFailedError: it cannot; nothing was removed.
    """
    told = {target.node: {"checkpoints": stands}}
    roots = {target.node: {str(item["root"]): ADOPTED for item in stands}}
    found = make_ledger("gathered", [target.node], told, roots).checkpoints
    whole = [item for item in found if item.complete and item.resume.possible]
    if len(found) == 1 and whole and whole[0].export.possible:
        return
    reasons = [text for item in found for text in (*item.resume.reasons, *item.export.reasons)]
    detail = "; ".join(dict.fromkeys(reasons)) or f"{len(found)} checkpoints lie there"
    raise StageFailedError(
        "ckpt gather", target.node, f"gathered, and nothing was removed elsewhere: {detail}"
    )


def carry_out(
    fleet: Fleet, name: str, found: GatherPlan, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Have it brought; returns what the program of the gather answered, and ``stands``.

    ``stands`` is what the target holds then, as the module ``checkpoint_ledger`` tells it.

    Args:
        fleet: The machines.
        name: The run's id, or the name of adopted folders.
        found: The plan.
        tell: Called with a sentence of progress, at most about every second.

    Raises:
        StageFailedError: it could not be brought; what has arrived is kept.
    """
    if found.target.node == CONTROLLER:
        return _here(found, "", tell)
    folder = GatherFolder(fleet.node_root(_node(fleet, found.target.node)), name)
    asked = {
        "name": name,
        "node": found.target.node,
        "request": dict(found.request),
        "job": folder.job,
        "folder": folder.requests,
    }
    said: set[str] = set()
    target = found.target.node

    def listen(result: ModuleResult) -> None:
        joins = result.task.endswith(START) and result.data.get("changed") is False
        if joins and not result.failed:
            tell(f"gather: one that brings just this is under way on {target}: joined")
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
    stands = result.data("checkpoint_ledger").get(found.target.node, {}).get("checkpoints", [])
    return {**(info.get("brought") or {}), "stands": stands}


def _here(found: GatherPlan, option: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run the program of a gather on the controller; what it answers."""
    with tempfile.TemporaryDirectory(prefix="swiftops-") as folder:
        request = Path(folder, "request.json")
        write_json(request, dict(found.request))
        argv = [sys.executable, "-m", "pyswiftops.checkpoints.receive", str(request)]
        argv += [option] if option else []
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout or ():
            if line.startswith("gather: "):
                tell(line.rstrip())
        errors = (process.stderr.read() if process.stderr else "").strip()
        if process.wait():
            raise StageFailedError("ckpt gather", CONTROLLER, errors.removeprefix("error: "))
        answer: dict[str, Any] = json.loads(request.with_suffix(".answer").read_text("utf-8"))
        return answer
