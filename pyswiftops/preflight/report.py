"""All checks, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.preflight import baseline, below, gpus, machine, network, sharing, software
from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Fleetwide, Found, Severity
from pyswiftops.specs.preflight import Check

Judge = Callable[[Asked, Fleetwide], Iterator[Found]]
JUDGES: Mapping[Check, Judge] = {
    Check.SHM: machine.shm,
    Check.DISK: machine.disk,
    Check.MEMORY: machine.memory,
    Check.LIMITS: machine.limits,
    Check.CLOCK: machine.clock,
    Check.GPUS: gpus.gpus,
    Check.GPU_ERRORS: gpus.gpu_errors,
    Check.KERNEL: gpus.kernel,
    Check.PROCESSES: gpus.processes,
    Check.PORTS: network.ports,
    Check.REACH: network.reach,
    Check.NAMES: network.names,
    Check.PROXY: network.proxy,
    Check.PACKAGES: software.packages,
    Check.UPGRADES: software.upgrades,
    Check.ENGINE: software.engine,
    Check.SHARED: sharing.shared,
    Check.INPUTS: sharing.inputs,
    Check.CACHE: sharing.cache,
}
ORDER = {severity: number for number, severity in enumerate(Severity)}


@dataclass(frozen=True)
class Report:
    """What a preflight found.

    Attributes:
        nodes: The nodes that answered, of those that were asked.
        asked: The nodes that were asked.
        findings: The worst first.
        facts: node -> what it told, by subject.
        seconds: How long it took.
        hosts: host that nodes are containers on -> what it told, by subject.
        fixed: What ``--fix`` did, a sentence each.
        recorded: Where the golden result was written; "" where it was not.
    """

    nodes: tuple[str, ...]
    asked: tuple[str, ...]
    findings: tuple[Found, ...]
    facts: Fleetwide
    seconds: float = 0.0
    hosts: Fleetwide = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    recorded: str = ""

    @property
    def blocked(self) -> bool:
        """Whether a launch would not go well."""
        return bool(self.blocking)

    @property
    def blocking(self) -> tuple[Found, ...]:
        """What stands in a launch's way."""
        return tuple(item for item in self.findings if item.severity is Severity.BLOCK)

    def to_dict(self, *, facts: bool = False) -> dict[str, Any]:
        """Plain data.

        Args:
            facts: Also what the nodes told.
        """
        told = {
            "blocked": self.blocked,
            "nodes": list(self.nodes),
            "asked": list(self.asked),
            "findings": [item.to_dict() for item in self.findings],
            "seconds": round(self.seconds, 3),
            "fixed": list(self.fixed),
            "recorded": self.recorded,
        }
        return {**told, "facts": dict(self.facts), "hosts": dict(self.hosts)} if facts else told


def checks(names: Iterable[str]) -> tuple[Check, ...]:
    """The checks of these names; all where none is named.

    Raises:
        BadInputError: there is no such check.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in set(Check)]
    if unknown:
        raise BadInputError(
            Finding(f"a check: {', '.join(Check)}", repr(unknown[0]), "--only", "name one of them")
        )
    return tuple(Check(name) for name in wanted) or tuple(Check)


def judge(
    asked: Asked,
    told: Fleetwide,
    *,
    only: Iterable[str] = (),
    accept: Iterable[str] = (),
    silent: Mapping[str, str] | None = None,
    golden: Mapping[str, Any] | None = None,
) -> Report:
    """Judge what all nodes told.

    Args:
        asked: The fleet and the run.
        told: node or host -> what the module ``preflight`` told there.
        only: Names of checks; all where none is given.
        accept: Checks that stop no launch: what they find becomes a note.
        silent: node or host -> why it did not answer.
        golden: An earlier result to compare with.

    Raises:
        BadInputError: there is no such check.
    """
    chosen, kept = checks(only), set(checks(accept)) if list(accept) else set()
    facts = {name: told[name] for name in asked.names if name in told}
    hosts = {name: told[name] for name in asked.hosts if name in told}
    nodes = below.kernel_logs_once(asked, facts, hosts)
    found = list(_silent(asked, told, silent or {})) if Check.NODES in chosen else []
    for check in chosen:
        if check in JUDGES:
            found += JUDGES[check](asked, nodes)
        if check in below.CHECKS:
            found += JUDGES[check](asked, hosts)
    if Check.BASELINE in chosen and golden is not None:
        found += baseline.differences(golden, facts)
    if Check.NODES in chosen:
        found += _not_looked_at({**facts, **hosts})
    mild = [replace(item, severity=Severity.NOTE) if item.check in kept else item for item in found]
    ranks = {node.name: node.rank for node in asked.nodes}
    mild.sort(key=lambda item: (ORDER[item.severity], ranks.get(item.node, -1)))
    return Report(tuple(facts), tuple(asked.names), tuple(mild), facts, hosts=hosts)


def _silent(asked: Asked, told: Fleetwide, silent: Mapping[str, str]) -> Iterator[Found]:
    for name in asked.names:
        if name not in told:
            remedy = f"swiftops exec -i fleet.yml -- true; swiftops shell {name}"
            said = silent.get(name, "none")[:500]
            yield Found(Check.NODES, Severity.BLOCK, name, "an answer", said, remedy)
    for name in asked.hosts:
        if name not in told:
            remedy = f"ansible -i fleet.yml {name} -m ansible.builtin.raw -a true"
            said, expected = silent.get(name, "none")[:500], "an answer of a host of containers"
            yield Found(Check.NODES, Severity.WARN, name, expected, said, remedy)


def _not_looked_at(facts: Fleetwide) -> Iterator[Found]:
    for name, told in facts.items():
        for subject, item in told.items():
            broken = isinstance(item, dict) and set(item) == {"error"}
            if broken and subject != "packages":  # which its own check tells of
                yield Found(
                    Check.NODES,
                    Severity.WARN,
                    name,
                    f"a look at {subject}",
                    str(item["error"]),
                    "please report it, with swiftops preflight --json",
                )
