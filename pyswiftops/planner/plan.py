"""A plan: every command of every node, exactly as it will run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyswiftops.paths import check_run_id
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.stages.command import Command
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.stages.render import render
from pyswiftops.stages.sources import fetched_items

# Stages without jobs of their own, and the stage without whose jobs they have no work.
WORK_OF = {"compare": "roundtrip", "smoke": "deploy"}


@dataclass(frozen=True)
class Plan:
    """What ``Client.apply`` runs.

    Attributes:
        run_id: The run's id.
        fleet: The machines.
        spec: The run.
        jobs: job -> its commands in rank order.
        rows: Training rows that were found.
    """

    run_id: str
    fleet: Fleet
    spec: RunSpec
    jobs: Mapping[str, tuple[Command, ...]]
    rows: int = 0

    @property
    def digest(self) -> str:
        """Tells two plans of one run id apart."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what the stage playbooks read, and what ``plan.json`` holds."""
        return {
            "run_id": self.run_id,
            "fleet": self.fleet.model_dump(mode="json"),
            "run": self.spec.model_dump(mode="json"),
            "jobs": {
                job: {command.node: command.to_dict() for command in commands}
                for job, commands in self.jobs.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Read what :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: the data are no plan of this version.
        """
        jobs = {
            job: tuple(Command.from_dict(command) for command in commands.values())
            for job, commands in data["jobs"].items()
        }
        fleet, spec = Fleet.model_validate(data["fleet"]), RunSpec.model_validate(data["run"])
        return cls(str(data["run_id"]), fleet, spec, jobs)

    def commands(self, job: str) -> tuple[Command, ...]:
        """A job's commands; none in a plan of a version that did not know the job."""
        return self.jobs.get(job, ())

    def idle(self, stage: str) -> bool:
        """Whether a stage has nothing to do in this plan, as an eval that no one asked for."""
        if stage == "fetch":
            return not fetched_items(self.spec)
        if stage == "gather":
            return self.spec.method.backend == "swift"
        lead = WORK_OF.get(stage, stage)
        jobs = CATALOG[lead].jobs
        return bool(jobs) and not any(self.commands(job) for job in jobs)

    def _fetched(self) -> list[str]:
        """What is fetched, from where, to where, as comments."""
        hub, nodes = self.fleet.hub, nodes_from_vars(self.fleet.host_vars())
        return [
            f"# {item.label} from {item.where(hub)} to {node.name}: {item.path_on(node)}"
            for item in fetched_items(self.spec)
            for node in nodes
            if item.path_on(node) != item.source.path
        ]

    def text(self) -> str:
        """Every command on every node as one would type it, stage by stage."""
        lines = []
        for stage in CATALOG.values():
            if stage.name != "fetch" and self.idle(stage.name):
                continue
            lines.append(f"# {stage.name}: {stage.what}")
            lines += self._fetched() if stage.name == "fetch" else []
            for job in stage.jobs:
                lines += [f"{command.node}$ {command.shell()}" for command in self.commands(job)]
            lines.append("")
        return "\n".join(lines)


def make_plan(fleet: Fleet, spec: RunSpec, run_id: str, rows: int = 0) -> Plan:
    """Render all jobs. Pure: looks at nothing but its arguments and the matrix."""
    check_run_id(run_id)
    nodes = nodes_from_vars(fleet.host_vars())
    jobs = {
        job: tuple(render(job, run_id, spec, nodes))
        for stage in CATALOG.values()
        for job in stage.jobs
    }
    return Plan(run_id, fleet, spec, jobs, rows)
