"""What a fleet trains over, and why: from what its nodes told at `swiftops up`, or tell now."""

from __future__ import annotations

from collections.abc import Callable

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.network import document
from pyswiftops.network.decide import Decision
from pyswiftops.nodes import Nodes
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec


def kept(fleet: Fleet, run: RunSpec | None = None) -> Decision:
    """The decision from the facts that the fleet's folder keeps; spares count.

    Args:
        fleet: The machines.
        run: Whose ``training.env`` wins over what is derived.

    Raises:
        BadInputError: Nothing is kept.
    """
    found = document.read(fleet.state_folder.root)
    if found is None:
        raise BadInputError(
            Finding(
                "facts that the nodes told",
                f"none in {fleet.state_folder.root}",
                f"fleet {fleet.name}",
                "swiftops up, or swiftops why nccl --now",
            )
        )
    told = {name: node["facts"] for name, node in found["nodes"].items() if node["facts"]}
    return _decided(fleet, told, run)


def asked(
    fleet: Fleet, run: RunSpec | None = None, on_output: Callable[[str], None] | None = None
) -> Decision:
    """The decision from what the nodes tell now; nothing is changed or kept.

    Args:
        fleet: The machines.
        run: Whose ``training.env`` wins over what is derived.
        on_output: Called with what ansible-playbook itself prints.
    """
    result = Nodes(fleet.everyone(), on_output).play("network", {})
    answers = result.data("network_facts")
    told = {name: answer["network"] for name, answer in answers.items() if "network" in answer}
    return _decided(fleet, told, run)


def _decided(fleet: Fleet, told: dict[str, object], run: RunSpec | None) -> Decision:
    variables = fleet.everyone().host_vars()
    found = document.gathered(variables, variables, told)
    return document.decided(found, run.training.env if run else None)
