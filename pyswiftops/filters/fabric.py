"""Filters of the role ``check_fabric``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyswiftops.fabric import plan
from pyswiftops.fabric.schedule import Round
from pyswiftops.paths import FabricFolder
from pyswiftops.planner.commands import plain


def _options(given: Mapping[str, Any]) -> plan.Options:
    told = plain(given)
    return plan.Options(**{**told, "sizes": tuple(map(str, told.get("sizes") or ()))})


def fabric_paths(root: str) -> dict[str, str]:
    """What a check keeps on a node, by name."""
    folder = FabricFolder(str(root))
    names = [name for name, value in vars(FabricFolder).items() if isinstance(value, property)]
    return {name: getattr(folder, name) for name in names}


def fabric_nodes(variables: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The nodes to check, in rank order."""
    return plan.chosen(plain(variables), plain(names))


def fabric_places(
    variables: Mapping[str, Any], leases: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """Node -> address and port that it listens on."""
    return plan.places(plain(variables), plain(leases))


def fabric_rounds(
    variables: Mapping[str, Any],
    nodes: Sequence[str],
    options: Mapping[str, Any],
    looks: Sequence[Mapping[str, Any]],
) -> list[Round]:
    """Who measures with whom: everybody at first, then what seemed bad.

    Args:
        variables: Node -> its variables.
        nodes: All that are checked.
        options: How.
        looks: From :func:`fabric_silent` first, then one from :func:`fabric_told` a look.
    """
    names, seen = plain(nodes), plain(looks)
    if len(seen) > 1:
        return plan.second_rounds(plain(variables), names, seen, _options(options))
    return plan.first_rounds([name for name in names if name not in seen[0]], _options(options))


def fabric_requests(
    variables: Mapping[str, Any],
    where: Mapping[str, Sequence[Any]],
    rounds: Sequence[Round],
    options: Mapping[str, Any],
    check: str,
) -> dict[str, dict[str, Any]]:
    """The job of each node."""
    told = (plain(variables), plain(where), plain(rounds))
    return plan.requests(*told, _options(options), str(check))


def fabric_silent(
    nodes: Sequence[str], leases: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    """Nodes that leased no port, and why; leases come in the order of ``nodes``."""
    return plan.silent(dict(zip(plain(nodes), plain(leases), strict=True)))


def fabric_told(
    nodes: Sequence[str],
    starts: Sequence[Mapping[str, Any]],
    ends: Sequence[Mapping[str, Any]],
    slurped: Sequence[Mapping[str, Any]],
    check: str,
) -> dict[str, dict[str, Any]]:
    """What each node wrote, or why it did not; results come in the order of ``nodes``."""
    names = plain(nodes)
    start, end, left = (
        dict(zip(names, plain(items), strict=True)) for items in (starts, ends, slurped)
    )
    return plan.told(names, start, end, left, str(check))


def fabric_report(
    variables: Mapping[str, Any],
    nodes: Sequence[str],
    options: Mapping[str, Any],
    looks: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The report as plain data; ``faults`` are what is wrong."""
    return plan.judged(plain(variables), plain(nodes), plain(looks), _options(options)).to_dict()


def fabric_faults(report: Mapping[str, Any]) -> str:
    """All faults in words."""
    return "; ".join(
        f"{item['where']} is {item['kind']}: expected {item['expected']}, found {item['found']}; "
        f"remedy: {item['remedy']}"
        for item in report["faults"]
    )


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        fabric_faults,
        fabric_nodes,
        fabric_paths,
        fabric_places,
        fabric_report,
        fabric_requests,
        fabric_rounds,
        fabric_silent,
        fabric_told,
    )
}
