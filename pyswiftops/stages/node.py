"""What a renderer must know of a node, read from its Ansible variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pyswiftops.errors import Finding, FleetError
from pyswiftops.paths import NodePaths
from pyswiftops.specs.document import Model, validate
from pyswiftops.specs.environment import Environment
from pyswiftops.specs.sources import HubAccess
from pyswiftops.specs.texts import Address, Interface, Text

REQUIRED = (
    "swiftops_line",
    "swiftops_rank",
    "swiftops_root",
    "swiftops_python",
    "swiftops_address",
)


class _Variables(Model):
    """The variables that are read; ``docs/reference/fleet.md`` describes them."""

    swiftops_rank: int = Field(ge=0)
    swiftops_ranks: int | None = Field(default=None, ge=1)
    swiftops_root: Text
    swiftops_python: Text
    swiftops_address: Address
    swiftops_interface: Interface | None = None
    swiftops_device: Literal["gpu", "cpu"] = "gpu"
    swiftops_gpus: list[Annotated[int, Field(ge=0)]] | None = None
    swiftops_cpu_threads: int | None = Field(default=None, ge=1)
    swiftops_env: Environment = Field(default_factory=dict)
    swiftops_line: Text
    swiftops_hidden_paths: list[Text] | None = None
    swiftops_hub: HubAccess | None = None

    @field_validator("swiftops_line", mode="before")
    @classmethod
    def _a_text(cls, line: Any) -> Any:
        """An inventory may write 4.6 without quotes."""
        return str(line) if type(line) in {int, float} else line

    @field_validator("swiftops_root")
    @classmethod
    def _absolute(cls, root: str) -> str:
        if not root.startswith("/") or not root.strip("/."):
            raise ValueError("an absolute folder, not / itself")
        return root

    @field_validator("swiftops_interface", mode="before")
    @classmethod
    def _none_if_empty(cls, interface: Any) -> Any:
        return interface or None

    @model_validator(mode="after")
    def _a_gpu_a_rank(self) -> _Variables:
        gpus = self.swiftops_gpus or []
        if len(set(gpus)) < len(gpus):
            raise ValueError("GPU numbers, each once, in swiftops_gpus")
        wanted = self.swiftops_ranks or len(gpus)
        if gpus and self.swiftops_device == "gpu" and wanted != len(gpus):
            raise ValueError(f"a GPU a rank; {wanted} ranks and {len(gpus)} in swiftops_gpus")
        return self


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
        env: Variables of every job on it.
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
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_vars(cls, name: str, variables: Mapping[str, Any]) -> NodeFacts:
        """Read the variables that the inventory plugin or a hand-written inventory sets.

        Raises:
            FleetError: a variable is missing, or has a value that it cannot have.
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
        known = {key: variables[key] for key in _Variables.model_fields if key in variables}
        told = validate(_Variables, known, f"host {name} of the inventory", FleetError)
        gpus = tuple(told.swiftops_gpus or ())
        return cls(
            name=name,
            rank=told.swiftops_rank,
            ranks=told.swiftops_ranks or max(1, len(gpus)),
            root=told.swiftops_root,
            python=told.swiftops_python,
            address=told.swiftops_address,
            interface=told.swiftops_interface,
            device=told.swiftops_device,
            gpus=() if told.swiftops_device == "cpu" else gpus,
            cpu_threads=told.swiftops_cpu_threads or 1,
            line=told.swiftops_line,
            hidden=tuple(told.swiftops_hidden_paths or ()),
            hub=told.swiftops_hub or HubAccess(),
            env=told.swiftops_env,
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
