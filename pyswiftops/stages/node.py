"""What a renderer must know of a node, read from its Ansible variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pyswiftops.errors import Finding, FleetError
from pyswiftops.paths import NodePaths
from pyswiftops.specs.document import validate
from pyswiftops.specs.sources import HubAccess

REQUIRED = (
    "swiftops_line",
    "swiftops_rank",
    "swiftops_root",
    "swiftops_python",
    "swiftops_address",
)


@dataclass(frozen=True)
class NodeFacts:
    """One node of the fleet, as the inventory describes it.

    Attributes:
        name: The node's name in the inventory.
        rank: Its place in rank order, from 0.
        ranks: How many training ranks it runs.
        root: Its own directory, absolute.
        python: The Python that ms-swift is installed in.
        address: Its address on the training network.
        interface: Network interface for NCCL and Gloo, or None for their own choice.
        device: ``gpu`` or ``cpu``.
        gpus: GPU numbers, one a rank; empty on CPU.
        cpu_threads: Threads of a rank on CPU.
        line: The ms-swift release line.
        hidden: Paths that its jobs must not be able to read.
        hub: How the node reaches hubs.
    """

    name: str
    rank: int
    ranks: int
    root: str
    python: str
    address: str
    interface: str | None
    device: str
    gpus: tuple[int, ...]
    cpu_threads: int
    line: str
    hidden: tuple[str, ...]
    hub: HubAccess = field(default_factory=HubAccess)

    @classmethod
    def from_vars(cls, name: str, variables: Mapping[str, Any]) -> NodeFacts:
        """Read the variables that the inventory plugin or a hand-written inventory sets.

        Raises:
            FleetError: a required variable is missing.
        """
        missing = [key for key in REQUIRED if key not in variables]
        if missing:
            raise FleetError(
                Finding(
                    f"variables {', '.join(REQUIRED)} on every node",
                    f"no {', '.join(missing)}",
                    f"host {name} of the inventory",
                    "use a fleet file, or set the variables of docs/reference/fleet.md",
                )
            )
        device = str(variables.get("swiftops_device", "gpu"))
        gpus = tuple(int(number) for number in variables.get("swiftops_gpus") or ())
        return cls(
            name=name,
            rank=int(variables["swiftops_rank"]),
            ranks=int(variables.get("swiftops_ranks") or max(1, len(gpus))),
            root=str(variables["swiftops_root"]),
            python=str(variables["swiftops_python"]),
            address=str(variables["swiftops_address"]),
            interface=variables.get("swiftops_interface") or None,
            device=device,
            gpus=() if device == "cpu" else gpus,
            cpu_threads=int(variables.get("swiftops_cpu_threads") or 1),
            line=str(variables["swiftops_line"]),
            hidden=tuple(str(path) for path in variables.get("swiftops_hidden_paths") or ()),
            hub=validate(
                HubAccess,
                variables.get("swiftops_hub") or {},
                f"host {name} of the inventory: swiftops_hub",
                FleetError,
            ),
        )

    @property
    def bin(self) -> str:
        """The folder of the node's Python, where ``swift`` and ``megatron`` lie."""
        return str(PurePosixPath(self.python).parent)

    def paths(self, run_id: str) -> NodePaths:
        """The run's files on this node."""
        return NodePaths(self.root, run_id)


def nodes_from_vars(variables: Mapping[str, Mapping[str, Any]]) -> tuple[NodeFacts, ...]:
    """All nodes; they must be listed in rank order, as playbooks take the first for rank 0.

    Raises:
        FleetError: a variable is missing, or ranks are not 0, 1, 2 ... in the order of the list.
    """
    nodes = [NodeFacts.from_vars(name, values) for name, values in variables.items()]
    ranks = [node.rank for node in nodes]
    if ranks != list(range(len(nodes))):
        raise FleetError(
            Finding(
                f"swiftops_rank 0 to {len(nodes) - 1}, each once and in this order",
                ", ".join(f"{node.name}: {node.rank}" for node in nodes) or "no nodes",
                "the inventory's group swiftops_nodes",
                "list the nodes in rank order, numbered from 0",
            )
        )
    return tuple(nodes)


def world_size(nodes: Sequence[NodeFacts]) -> int:
    """Training ranks of the whole fleet."""
    return sum(node.ranks for node in nodes)
