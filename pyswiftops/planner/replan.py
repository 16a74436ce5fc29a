"""A run's plan made anew: with another checkpoint to go on from, or other nodes. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.node import Node
from pyswiftops.specs.run import Resume
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.stages.render import render

TRAIN = "train"
ON_EVERY_NODE = ("fetch", "data", "convert")
"""Stages that leave what training needs on every node; what is there already they let be."""

ON_LAST = ("rollout",)
ON_FIRST = ("gather", "export", "eval", "sample", "deploy", "smoke")


def resumed(plan: Plan, resume: Resume | None) -> Plan:
    """The plan whose training goes on from a checkpoint; all else is as it was."""
    spec = plan.spec.model_copy(update={"resume": resume})
    nodes = nodes_from_vars(plan.fleet.host_vars())
    jobs = {**plan.jobs, TRAIN: tuple(render(TRAIN, plan.run_id, spec, nodes))}
    return dataclasses.replace(plan, spec=spec, jobs=jobs)


def with_fleet(plan: Plan, fleet: Fleet) -> Plan:
    """The plan for other nodes."""
    return make_plan(fleet, plan.spec, plan.run_id, plan.rows)


def parse_pairs(words: Iterable[str]) -> dict[str, str]:
    """Old node -> new node, from words such as ``node-2=node-5``.

    Raises:
        BadInputError: a word is no such pair, or names a node twice.
    """
    found: dict[str, str] = {}
    for word in words:
        old, _, new = word.partition("=")
        if not old or not new or old in found or new in found.values():
            raise BadInputError(
                Finding(
                    "OLD=NEW, each node once",
                    repr(word),
                    "--replace",
                    "for instance --replace node-2=node-5",
                )
            )
        found[old] = new
    return found


def replaced(fleet: Fleet, pairs: Mapping[str, str], known: Fleet | None = None) -> Fleet:
    """The fleet with new nodes in the places, and so in the ranks, of old ones.

    An old node is gone from it. Addresses that followed from a node's place are written out, so
    that every node keeps its own.

    Args:
        fleet: Of the run.
        pairs: Old node -> new node: a spare, or a node of ``known``.
        known: A newer fleet file.

    Raises:
        BadInputError: with all findings.
    """
    fleet = _with_addresses(fleet)
    here = {node.name: node for node in fleet.members}
    free = {node.name: node for node in fleet.spares}
    for node in _with_addresses(known).nodes if known else ():
        if node.name not in here:
            free.setdefault(node.name, node)
    findings = []
    for old, new in pairs.items():
        findings += _check_pair(fleet, old, new, here, free)
    if findings:
        raise BadInputError(findings)
    fresh = {old: free[new].model_copy(update={"spare": False}) for old, new in pairs.items()}
    nodes = [fresh.get(node.name, node) for node in fleet.nodes if node.name not in pairs.values()]
    return _checked(fleet.model_copy(update={"nodes": nodes}))


def _with_addresses(fleet: Fleet) -> Fleet:
    nodes = [node.model_copy(update={"address": fleet.address(node)}) for node in fleet.nodes]
    return fleet.model_copy(update={"nodes": nodes})


def _check_pair(
    fleet: Fleet, old: str, new: str, here: Mapping[str, Node], free: Mapping[str, Node]
) -> list[Finding]:
    where = f"--replace {old}={new}"
    findings = []
    if old not in here:
        expected = f"a node of the run: {', '.join(here)}"
        findings.append(Finding(expected, repr(old), where, "name one of them before the ="))
    if new not in free:
        found = "a node of the run already" if new in here else repr(new)
        expected = f"a spare: {', '.join(free) or 'the fleet has none'}"
        remedy = "name one after the =, or a fleet file that has the node (-i)"
        findings.append(Finding(expected, found, where, remedy))
    if findings:
        return findings
    ranks = [fleet.ranks(node) for node in (here[old], free[new])]
    if ranks[0] == ranks[1]:
        return []
    expected, found = f"{ranks[0]} ranks, as {old} has", f"{ranks[1]} on {new}"
    return [Finding(expected, found, where, "name a node with as many GPUs")]


def _checked(fleet: Fleet) -> Fleet:
    """The fleet as its file would be read: a new node may need a host that is not there."""
    try:
        return Fleet.model_validate(fleet.model_dump(mode="json"))
    except ValueError as problem:
        raise BadInputError(
            Finding(
                "a fleet that holds together with the new nodes",
                str(problem),
                "--replace",
                "name a node of the same fleet",
            )
        ) from None


def repeated(before: Fleet, after: Fleet) -> tuple[str, ...]:
    """Stages to do again, as what they left was on a node that is gone.

    Training itself is not among them: it goes on where it is.
    """
    old = [node.name for node in before.members]
    new = [node.name for node in after.members]
    if old == new:
        return ()
    last = ON_LAST if old[-1] != new[-1] else ()
    first = ON_FIRST if old[0] != new[0] else ()
    return (*ON_EVERY_NODE, *last, *first)
