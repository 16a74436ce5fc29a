"""Asking the nodes of a fleet: one playbook an answer, nothing left behind on the controller."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pyswiftops import local_jobs
from pyswiftops.errors import BadInputError, Finding, StageFailedError
from pyswiftops.results import CommandResult, command_result
from pyswiftops.runner import ModuleResult, PlaybookResult, run_playbook
from pyswiftops.specs.fleet import Fleet, Runtime
from pyswiftops.store import write_json

COMMAND = "ansible.builtin.command"


class Nodes:
    """The nodes of a fleet.

    Args:
        fleet: The machines.
        on_output: Called with what ansible-playbook itself prints.
    """

    def __init__(self, fleet: Fleet, on_output: Callable[[str], None] | None = None) -> None:
        self._fleet, self._on_output = fleet, on_output

    @property
    def names(self) -> list[str]:
        """The nodes' names in rank order."""
        return [node.name for node in self._fleet.members]

    def chosen(self, node: str | None) -> list[str]:
        """The nodes that a command is about: one by its name, or all.

        Raises:
            BadInputError: no such node.
        """
        if node is None:
            return self.names
        if node not in self.names:
            known = ", ".join(self.names)
            raise BadInputError(
                Finding(f"a node: {known}", repr(node), "--node", "name one of them")
            )
        return [node]

    def play(
        self,
        playbook: str,
        variables: Mapping[str, Any],
        files: Mapping[str, Any] | None = None,
        keep: frozenset[str] = frozenset(),
        on_result: Callable[[ModuleResult], None] | None = None,
    ) -> PlaybookResult:
        """Run a playbook of the collection on all nodes.

        Args:
            playbook: Its name without the collection's.
            variables: Extra variables.
            files: Variable -> data that are handed over as a JSON file, which the variable names;
                strings in them are never templated.
            keep: Full names of other modules whose results are wanted.
            on_result: Called with what our modules return, as they return it.
        """
        with tempfile.TemporaryDirectory(prefix="swiftops-") as folder:
            for name, data in (files or {}).items():
                file = Path(folder, f"{name}.json")
                write_json(file, data)
                variables = {**variables, name: str(file)}
            inventory = Path(folder, "fleet.yml")
            inventory.write_text(self._fleet.to_yaml(), encoding="utf-8")
            return run_playbook(
                playbook,
                inventory,
                Path(folder, "a"),
                variables,
                forks=max(5, len(self._fleet.nodes) + len(self._fleet.hosts)),
                on_output=self._on_output,
                keep=keep,
                on_result=on_result or (lambda _result: None),
            )

    def jobs(
        self,
        run_id: str,
        jobs: Iterable[str],
        *,
        tail: int = 0,
        log_from: Mapping[str, int] | None = None,
        log_since: float | None = None,
    ) -> list[ModuleResult]:
        """How a run's jobs stand, as the module ``job`` tells it.

        Args:
            run_id: The run's id.
            jobs: Which jobs.
            tail: Last log lines to bring along.
            log_from: ``<node>/<job>`` -> bytes of that log which are known already.
            log_since: Of the logs only what came after, in seconds since the epoch.
        """
        if self._fleet.runtime is Runtime.LOCAL:
            return local_jobs.read(
                self._fleet, run_id, list(jobs), tail=tail, log_from=log_from, log_since=log_since
            )
        variables = {
            "swiftops_run_id": run_id,
            "swiftops_jobs": list(jobs),
            "swiftops_tail": tail,
            "swiftops_log_from": dict(log_from or {}),
            **({} if log_since is None else {"swiftops_log_since": log_since}),
        }
        result = self.play("status", variables)
        return [item for item in result.results if item.action == "job"]

    def stop(self, run_id: str, jobs: Iterable[str]) -> list[ModuleResult]:
        """End a run's jobs; the answers of those that were ended.

        Raises:
            StageFailedError: a node could not be reached, or a process would not end.
        """
        result = self.play("stop", {"swiftops_run_id": run_id, "swiftops_jobs": list(jobs)})
        if not result.ok:
            failure = result.failures[-1]
            raise StageFailedError("stop", failure.node, str(failure.data.get("msg", failure.data)))
        answers = [item for item in result.results if item.action == "job"]
        return [item for item in answers if item.data.get("changed")]

    def pairs(self) -> dict[tuple[str, str], str]:
        """(node, other node) -> "" if the one logs in to the other, else what ssh said."""
        result = self.play("mesh", {})
        answers = result.data("reach")
        silent = {item.node: str(item.data.get("msg", "")) for item in result.failures}
        found: dict[tuple[str, str], str] = {}
        for node in self.names:
            answer = answers.get(node, {})
            failed = answer.get("failed_peers") or {}
            for other in self.names:
                if other == node:
                    continue
                if other in answer.get("reached", ()):
                    found[node, other] = ""
                else:
                    said = failed.get(other) or silent.get(node) or "not tried"
                    found[node, other] = str(said).strip()
        return found

    def execute(self, argv: list[str]) -> list[CommandResult]:
        """Run a command on every node; one result a node, in rank order."""
        files = {"swiftops_argv_file": argv}
        result = self.play("execute", {}, files, keep=frozenset({COMMAND}))
        found = {item.node: item for item in result.results}
        return [command_result(name, found.get(name)) for name in self.names]
