"""The SDK's check of a fleet's network: one playbook, whose facts come back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from pyswiftops.errors import StageFailedError
from pyswiftops.fabric.plan import Options, chosen, judged
from pyswiftops.fabric.report import FabricReport
from pyswiftops.nodes import Nodes
from pyswiftops.runner import ModuleResult
from pyswiftops.specs.fleet import Fleet

FACTS = "ansible.builtin.set_fact"
LOOKS = "check_fabric_looks"


class ChecksFabric(ABC):
    """The part of :class:`pyswiftops.Client` that measures the network."""

    on_output: Callable[[str], None] | None

    @abstractmethod
    def resolved(self, fleet: Fleet) -> Fleet:
        """See :meth:`pyswiftops.Client.resolved`."""

    def check_fabric(
        self,
        fleet: Fleet,
        *,
        nodes: Iterable[str] = (),
        options: Options | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> FabricReport:
        """Measure the network between nodes; ``faults`` of the report names what is wrong.

        Args:
            fleet: The machines.
            nodes: Only these.
            options: Message sizes, limits and so on.
            tell: Called with a sentence of progress.

        Raises:
            BadInputError: an unknown node, or nothing to measure between.
            StageFailedError: nothing could be measured at all.
        """
        names, fleet = tuple(nodes), self.resolved(fleet)
        return check(fleet, names, options or Options(), tell=tell, on_output=self.on_output)


def check(
    fleet: Fleet,
    names: tuple[str, ...],
    options: Options,
    *,
    tell: Callable[[str], None] = lambda _line: None,
    on_output: Callable[[str], None] | None = None,
) -> FabricReport:
    """Measure, look twice at what seems bad, and judge; an interrupt ends the jobs on the nodes.

    Args:
        fleet: The machines.
        names: Nodes to check; all where there are none.
        options: How.
        tell: Called with a sentence of progress.
        on_output: Called with what ansible-playbook itself prints.

    Raises:
        BadInputError: an unknown node, or nothing to measure between.
        StageFailedError: the playbook failed before anything was measured.
    """
    begin = time.monotonic()
    variables = fleet.host_vars()
    nodes = chosen(variables, names)
    said: set[str] = set()

    def listen(result: ModuleResult) -> None:
        for line in result.data.get("log_tail") or ():
            if line.startswith("fabric: ") and line not in said:
                said.add(line)
                tell(f"{result.node} {line.removeprefix('fabric: ')}")

    given = {f"check_fabric_{name}": value for name, value in _given(options).items()}
    machines = Nodes(fleet, on_output)
    try:
        result = machines.play(
            "check_fabric",
            {**given, "check_fabric_nodes": nodes, "check_fabric_fail": False},
            keep=frozenset({FACTS}),
            on_result=listen,
        )
    except KeyboardInterrupt:
        tell("interrupted: ending what measures on the nodes")
        machines.play("check_fabric_stop", {})
        raise
    facts = [
        item.data.get("ansible_facts") or {} for item in result.results if item.action == FACTS
    ]
    looks = next((told[LOOKS] for told in reversed(facts) if LOOKS in told), None)
    if looks is None or not result.ok:
        failure = result.failures[-1] if result.failures else None
        text = str(failure.data.get("msg", failure.data)) if failure else "nothing was measured"
        raise StageFailedError("check-fabric", failure.node if failure else "", text)
    return judged(variables, nodes, looks, options, time.monotonic() - begin)


def _given(options: Options) -> dict[str, Any]:
    """Options under the names that the role has for them."""
    told = {**asdict(options), "env": dict(options.env or {}), "sizes": list(options.sizes)}
    return {("timeout" if name == "seconds" else name): value for name, value in told.items()}
