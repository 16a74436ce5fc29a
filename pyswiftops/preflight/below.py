"""Hosts that nodes are containers on: what works there can end a run, too."""

from __future__ import annotations

from collections.abc import Mapping

from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Fleetwide
from pyswiftops.specs.preflight import Check

CHECKS = frozenset({Check.GPU_ERRORS, Check.KERNEL, Check.UPGRADES, Check.ENGINE})
"""Checks that are made of a host as they are of a node."""


def kernel_logs_once(asked: Asked, nodes: Fleetwide, hosts: Fleetwide) -> Fleetwide:
    """What nodes told, without their kernel's log where their host told it: it is the same.

    Args:
        asked: The fleet.
        nodes: node -> what it told.
        hosts: host -> what it told.
    """

    def told_below(node: str) -> bool:
        log: Mapping[str, object] = hosts.get(asked.host_of.get(node, ""), {}).get("kernel_log", {})
        return bool(log) and not log.get("error")

    return {
        name: {**told, "kernel_log": {}} if told_below(name) else told
        for name, told in nodes.items()
    }
