"""What the playbook of the stage fetch asks of Python; ``pyswiftops.filters`` exposes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pyswiftops.planner.commands import plain, run_spec
from pyswiftops.planner.parallel import check_parallel
from pyswiftops.stages.node import NodeFacts, nodes_from_vars, world_size
from pyswiftops.stages.sources import Item, data_items, model_item
from pyswiftops.stages.sources import fetch_steps as steps_of

Variables = Mapping[str, Mapping[str, Any]]


def fetch_steps(run: Mapping[str, Any], variables: Variables) -> list[dict[str, Any]]:
    """What is to be fetched, from where, and in which rounds nodes hand it on.

    Args:
        run: The run spec as plain data.
        variables: node -> its Ansible variables.

    Raises:
        BadInputError: the spec or the inventory cannot be used.
    """
    return steps_of(run_spec(run), nodes_from_vars(plain(variables)))


def fetch_room(steps: Sequence[Mapping[str, Any]], held: Mapping[str, Sequence[Any]]) -> str:
    """Bytes free on the nodes that are to have a download as well.

    Args:
        steps: Those of :func:`fetch_steps`.
        held: node -> what the module ``fetched`` returned for each download there; the first
            node first.

    Returns:
        Lines of bytes, node and the download's folder on the first node, as
        ``pyswiftops.data.fetch`` reads them.
    """
    downloads = [step for step in steps if step["origin"] == "hub"]
    first, *others = held
    return "\n".join(
        f"{int(found['room'])} {node} {step['folders'][first]['folder']}"
        for node in others
        for step, found in zip(downloads, held[node], strict=True)
        if not found["complete"]
    )


def fetch_recorded(
    steps: Sequence[Mapping[str, Any]], first: str, held: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Files of each download, by its folder on the first node.

    Args:
        steps: Those of :func:`fetch_steps`.
        first: The first node.
        held: What the module ``fetched`` returned for each download there.
    """
    downloads = [step for step in steps if step["origin"] == "hub"]
    return {
        str(step["folders"][first]["folder"]): plain(found["files"])
        for step, found in zip(downloads, held, strict=True)
    }


def lacking(held: Mapping[str, bool]) -> list[str]:
    """Nodes of ``held`` (node -> whether it has it) that lack it."""
    return [node for node, complete in held.items() if not complete]


def inputs_before(run: Mapping[str, Any], variables: Mapping[str, Any], place: str) -> Any:
    """Inputs that can be looked at before a fetch, at a place.

    Args:
        run: The run spec as plain data.
        variables: Ansible variables of a node.
        place: ``node`` or ``controller``.

    Returns:
        ``model``, a path or "", ``datasets``, paths, and ``answers``: whether rows must hold one.
    """
    spec, node = run_spec(run), NodeFacts.from_vars("node", plain(variables))

    def path(item: Item) -> str:
        if place == "node" and not item.is_fetched:
            return str(item.source.path)
        there = "controller" if place == "controller" else "first_node" if not node.rank else ""
        here = item.is_fetched and item.origin(node.hub) == there
        return item.origin_path(node.hub) if here else ""

    paths = [path(item) for item in data_items(spec)]
    return {
        "model": path(model_item(spec)),
        "datasets": [found for found in paths if found],
        "answers": spec.method.needs_answers,
    }


def inputs_after(run: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as later stages read them on a node: ``model``, ``datasets`` and ``answers``."""
    spec, node = run_spec(run), NodeFacts.from_vars("node", plain(variables))
    return {
        "model": model_item(spec).path_on(node),
        "datasets": [item.path_on(node) for item in data_items(spec)],
        "answers": spec.method.needs_answers,
    }


def model_findings(
    run: Mapping[str, Any], variables: Variables, model: Mapping[str, Any]
) -> list[str]:
    """What does not fit the model; only now known where it was fetched."""
    nodes = nodes_from_vars(plain(variables))
    return [str(item) for item in check_parallel(run_spec(run), world_size(nodes), plain(model))]


def pull_from(variables: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Where another node finds a folder of this node."""
    if variables.get("ansible_connection") == "local":
        return {"path": path}
    return {
        "path": path,
        "host": variables["swiftops_address"],
        "port": int(variables.get("ansible_port", 22)),
        "user": variables.get("ansible_user", "root"),
    }


def push_target(variables: Mapping[str, Any], path: str) -> dict[str, Any]:
    """How the controller's rsync reaches a folder of a node: as Ansible does."""
    options = shlex.split(str(variables.get("ansible_ssh_args") or ""))
    key = variables.get("ansible_ssh_private_key_file")
    return {
        "path": path,
        "host": str(variables.get("ansible_host") or variables["swiftops_address"]),
        "port": int(variables.get("ansible_port") or 22),
        "user": str(variables.get("ansible_user") or "root"),
        "ssh_options": [*(["-i", str(key)] if key else []), *options],
    }


def reach(variables: Mapping[str, Any], *, controller: bool = False) -> dict[str, Any]:
    """How the target's node reaches a node: ``remote`` (None on one machine) and ``python``.

    ``direct`` says that a connection beside ssh may be tried, and ``trusted`` that the fleet
    declares the network among its nodes trusted; the controller is none of them.

    Args:
        variables: The node's Ansible variables.
        controller: Whether the target is the controller.
    """
    python = str(variables["swiftops_python"])
    if variables.get("ansible_connection") == "local":
        return {"remote": None, "python": python}
    way = push_target if controller else pull_from
    there = way(variables, "/")
    del there["path"]
    trusted = not controller and variables.get("swiftops_trusted_network") is True
    return {"remote": there, "python": python, "direct": not controller, "trusted": trusted}
