"""Asking the nodes, mending what is safe to mend, and keeping a golden result."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyswiftops.content import module_util
from pyswiftops.errors import PreflightError
from pyswiftops.nodes import Nodes
from pyswiftops.preflight.asked import Asked, request
from pyswiftops.preflight.baseline import golden
from pyswiftops.preflight.finding import Fix, Found
from pyswiftops.preflight.report import Report, checks, judge
from pyswiftops.results import unheard
from pyswiftops.specs.fleet import Fleet, Runtime
from pyswiftops.specs.preflight import Check
from pyswiftops.specs.run import RunSpec
from pyswiftops.store import write_json

TOKEN_BYTES = 8


@dataclass(frozen=True)
class Options:
    """How a preflight is done.

    Attributes:
        only: Names of checks; all where none is given. Upgrades are held by ``fix`` only where
            their check is named.
        fix: Mend what is safe to mend, then look again.
        record: Keep the result as the fleet's golden one.
        rows: Training rows, where they were counted.
    """

    only: Sequence[str] = ()
    fix: bool = False
    record: bool = False
    rows: int = 0


LOOK = Options()


def preflight(
    fleet: Fleet,
    spec: RunSpec | None = None,
    options: Options = LOOK,
    on_output: Callable[[str], None] | None = None,
) -> Report:
    """Look at all nodes of a fleet at the same time, and judge.

    Args:
        fleet: The machines; spares too, where no run is given.
        spec: The run that is to be launched, if any.
        options: What to look at, and what to do about it.
        on_output: Called with what ansible-playbook itself prints.

    Raises:
        BadInputError: there is no such check.
    """
    checks(options.only)  # a wrong name ends here
    fleet = fleet.everyone() if spec is None else fleet
    asked = Asked.of(fleet.host_vars(), spec, options.rows)
    nodes, kept = Nodes(fleet, on_output), Path(fleet.state_folder.root, "preflight.json")
    begin = time.monotonic()
    report = _look(nodes, asked, fleet, options, kept)
    fixed = _fix(nodes, report.findings, options) if options.fix else []
    if fixed:
        report = _look(nodes, asked, fleet, options, kept)
    if options.record:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(kept, golden(report.facts))
    return replace(
        report,
        seconds=time.monotonic() - begin,
        fixed=tuple(fixed),
        recorded=str(kept) if options.record else "",
    )


def hold_back(report: Report, told_elsewhere: Collection[Check] = ()) -> None:
    """Stop a launch that something stands in the way of.

    Args:
        report: What was found.
        told_elsewhere: Checks that others tell of, and better.

    Raises:
        PreflightError: with everything that blocks.
    """
    blocking = [item for item in report.blocking if item.check not in told_elsewhere]
    if blocking:
        raise PreflightError([item.as_finding() for item in blocking])


def _look(nodes: Nodes, asked: Asked, fleet: Fleet, options: Options, kept: Path) -> Report:
    wanted = request(asked, secrets.token_hex(TOKEN_BYTES))
    silent: dict[str, str] = {}
    if fleet.runtime is Runtime.LOCAL:
        facts = look_here(wanted)
    else:
        files = {"swiftops_preflight_file": wanted}
        begin = time.time()
        result = nodes.play("preflight", {"preflight_judge": False}, files)
        end = time.time()
        told = result.data("preflight")
        facts = {name: item["facts"] for name, item in told.items() if "facts" in item}
        for name in asked.names:  # when the node looked, by this machine's clock
            if name in facts:
                facts[name]["clock"]["asked"] = [begin, end]
        silent = {failure.node: unheard(failure).found for failure in result.failures}
    return judge(
        asked,
        facts,
        only=options.only,
        accept=fleet.preflight.accept,
        silent=silent,
        golden=None if options.record else _read(kept),
    )


def look_here(wanted: dict[str, Any]) -> dict[str, Any]:
    """What nodes tell that are folders of this machine: the module's own code, without Ansible.

    Nodes with the same Python have the same packages, so that it is asked once.
    """
    look, nodes = module_util("preflight.look").look, wanted["nodes"]
    firsts = {str(item["python"]): name for name, item in reversed(nodes.items())}
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:  # they meet, so that all are at work
        began = {
            name: pool.submit(
                look, name, wanted if name in firsts.values() else {**wanted, "packages": []}
            )
            for name in nodes
        }
        facts = {name: future.result() for name, future in began.items()}
    return {
        name: {**told, "packages": facts[firsts[str(nodes[name]["python"])]]["packages"]}
        for name, told in facts.items()
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _fix(nodes: Nodes, findings: Iterable[Found], options: Options) -> list[str]:
    """Do what is safe: end what our own dead jobs left; hold upgrades, where that was asked for."""
    done: list[str] = []
    jobs: dict[str, set[str]] = {}
    for item in findings:
        if item.fix is Fix.STOP_JOB:
            run_id, job = item.about
            jobs.setdefault(run_id, set()).add(job)
    for run_id, names in jobs.items():
        for answer in nodes.stop(run_id, sorted(names)):
            ended = len(answer.data.get("ended") or ())
            done.append(
                f"{answer.node}: stopped {answer.data.get('stage') or ', '.join(sorted(names))} "
                f"of run {run_id}, {ended} processes ended"
            )
    upgrading = [item.node for item in findings if item.fix is Fix.HOLD_UPGRADES]
    if Check.UPGRADES in options.only and upgrading:
        result = nodes.play("hold_upgrades", {"swiftops_hold_on": upgrading})
        changed = [name for name, count in result.changed.items() if count]
        done += [f"{name}: unattended upgrades are off" for name in changed]
    return done
