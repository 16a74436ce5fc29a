"""What a launch asks of its nodes, and the request that the module ``preflight`` gets."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyswiftops.errors import MatrixError
from pyswiftops.installed import PROBE, probe
from pyswiftops.matrix import Row, row
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.node import NodeFacts, nodes_from_vars
from pyswiftops.stages.sources import data_items, model_item

MEET_SECONDS = 20.0  # for the last node to come; a fleet that is whole takes a second or two
LEASED = range(20000, 29000)  # where MASTER_PORT is leased
EPHEMERAL = range(40000, 59000)  # where NCCL and Gloo listen, as the kernel gives ports


@dataclass(frozen=True)
class Asked:
    """The fleet and, where one is launched, the run.

    Attributes:
        nodes: In rank order.
        runtime: container, host or local.
        device: gpu or cpu.
        shared: Folders that the fleet file calls the same on all nodes.
        row: The release line's row; None where it is not known.
        host_of: node -> the host that it is a container on; nothing else is in it.
        network_file: Where jobs read on a node what it trains over; "" where they do not.
        spec: The run; None where only the fleet is looked at.
        rows: Training rows, as far as they were counted.
    """

    nodes: tuple[NodeFacts, ...]
    runtime: str
    device: str
    shared: tuple[str, ...]
    row: Row | None
    host_of: Mapping[str, str] = field(default_factory=dict)
    network_file: str = ""
    spec: RunSpec | None = None
    rows: int = 0

    @classmethod
    def of(
        cls, variables: Mapping[str, Mapping[str, Any]], spec: RunSpec | None = None, rows: int = 0
    ) -> Asked:
        """Read it from the nodes' variables, as the inventory plugin sets them.

        Raises:
            FleetError: a variable is missing, or has a value that it cannot have.
        """
        nodes = nodes_from_vars(variables)
        first = next(iter(variables.values()), {})
        try:
            known = row(nodes[0].line) if nodes else None
        except MatrixError:
            known = None  # line: auto, which nodes tell
        return cls(
            nodes,
            str(first.get("swiftops_runtime", "host")),
            nodes[0].device if nodes else "cpu",
            tuple(map(str, first.get("swiftops_shared_paths") or ())),
            known,
            {
                name: str(of_node["swiftops_host"])
                for name, of_node in variables.items()
                if of_node.get("swiftops_host")
            },
            str(first.get("swiftops_network_file") or ""),
            spec,
            rows,
        )

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return [node.name for node in self.nodes]

    @property
    def hosts(self) -> list[str]:
        """The hosts that nodes are containers on."""
        return list(dict.fromkeys(self.host_of.values()))

    @property
    def several(self) -> bool:
        """Whether ranks talk over a network."""
        return len(self.nodes) > 1

    @property
    def one_machine(self) -> bool:
        """Whether all nodes are folders of this machine."""
        return self.runtime == "local"

    @property
    def inputs(self) -> list[str]:
        """Model and rows that each node has for itself: what the stage fetch does not bring."""
        if self.spec is None or not self.several or self.one_machine:
            return []
        items = (model_item(self.spec), *data_items(self.spec))
        return list(dict.fromkeys(item.label for item in items if not item.is_fetched))

    def ports_of(self, node: NodeFacts) -> list[int]:
        """Ports that the run names and the node must have free."""
        if self.spec is None:
            return []
        found = []
        if isinstance(self.spec.deploy.port, int) and node == self.nodes[0]:
            found.append(self.spec.deploy.port)
        if self.spec.rollout is not None and node == self.nodes[-1]:
            found.append(self.spec.rollout.port)
        return found

    @property
    def model(self) -> str:
        """The base model's folder, where the run names one."""
        return (self.spec.model.path or "") if self.spec else ""


def request(asked: Asked, token: str) -> dict[str, Any]:
    """What all nodes are asked: one text for all, of which each takes its part.

    Args:
        asked: The fleet and the run.
        token: What this preflight knows itself by; ports are drawn from it.
    """
    drawn = random.Random(token)  # noqa: S311 ports, no secrets
    count = max(1, len(asked.nodes))
    low = drawn.randrange(LEASED.start, LEASED.stop - count)
    high = drawn.randrange(EPHEMERAL.start, EPHEMERAL.stop - count)
    argv = probe(asked.row)[1:] if asked.row else ["-c", PROBE, json.dumps({})]
    return {
        "token": token,
        "seconds": MEET_SECONDS,
        "device": asked.device,
        "probes": list(asked.shared),
        "packages": argv,
        "nodes": {
            node.name: {
                "address": node.address,
                "ports": [low + node.rank, high + node.rank],
                "root": node.root,
                "python": node.python,
                "env": dict(node.env),
                "network_file": asked.network_file,
                "paths": {"root": node.root, "tmp": "/tmp"},  # noqa: S108 looked at only
                "taken": asked.ports_of(node),
                "model": asked.model,
                "inputs": asked.inputs,
            }
            for node in asked.nodes
        },
    }
