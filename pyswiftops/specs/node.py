"""A node of the fleet file."""

from __future__ import annotations

from pydantic import Field, field_validator

from pyswiftops.specs.container import label
from pyswiftops.specs.document import Model
from pyswiftops.specs.texts import Address, Interface, Text

MOST_GPUS = 128  # of one node


class Node(Model):
    """Where training ranks run."""

    name: str = Field(description="Unique; letters, digits and dashes, as in a host name.")
    host: str | None = Field(
        default=None, description="Which of hosts runs its container; default: the only one."
    )
    address: Address | None = Field(
        default=None, description="Address for SSH; not for local nodes."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="SSH port of this node.")
    training_address: Address | None = Field(
        default=None, description="Address on the training network; default: address."
    )
    training_interface: Interface | None = Field(
        default=None, description="Interface NCCL and Gloo use on this node; default: the fleet's."
    )
    root: Text | None = Field(default=None, description="The node's own directory, absolute.")
    gpus: int | list[int] | None = Field(
        default=None, description="How many GPUs, or which; one rank each. CPU nodes have one rank."
    )
    python: Text | None = Field(
        default=None, description="The Python that ms-swift is installed in."
    )
    spare: bool = Field(
        default=False, description="In no run until it takes the place of a node that is lost."
    )

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, name: str) -> str:
        return label(name)

    @field_validator("gpus")
    @classmethod
    def _at_least_one(cls, gpus: int | list[int] | None) -> int | list[int] | None:
        if (isinstance(gpus, int) and gpus < 1) or gpus == []:
            raise ValueError("at least one GPU (leave gpus out on CPU nodes)")
        if isinstance(gpus, list) and (len(set(gpus)) < len(gpus) or min(gpus) < 0):
            raise ValueError("GPU numbers, each once, none negative")
        most = (max(gpus) if isinstance(gpus, list) else gpus or 0) if gpus else 0
        if most > MOST_GPUS:
            raise ValueError(f"at most {MOST_GPUS} GPUs a node")
        return gpus
