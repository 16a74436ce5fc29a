"""Training that was begun before: where it stands, what it goes on from, who takes whose place."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyswiftops import provision
from pyswiftops.checkpoints.ledger import Ledger
from pyswiftops.checkpoints.merging import make_ledger
from pyswiftops.checkpoints.resuming import (
    Candidate,
    Decision,
    How,
    candidates,
    chosen,
    decide,
    fits,
)
from pyswiftops.checkpoints.retrying import Again, assign
from pyswiftops.errors import Finding, ProvisionError, StageFailedError
from pyswiftops.events import EventKind
from pyswiftops.nodes import Nodes
from pyswiftops.paths import NodePaths
from pyswiftops.planner import replan
from pyswiftops.planner.plan import Plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.node import Node
from pyswiftops.specs.run import Resume
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

TRAIN = replan.TRAIN
Tell = Callable[[EventKind, str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Standing:
    """Where training stands on the nodes.

    Attributes:
        jobs: Node -> state of its training job, for nodes that answer.
        found: Checkpoints of the run.
        silent: Node -> why it did not answer.
    """

    jobs: Mapping[str, str]
    found: tuple[Candidate, ...]
    silent: Mapping[str, str]


@dataclass(frozen=True)
class Start:
    """How training is started.

    Attributes:
        plan: The plan in force.
        variables: More variables of its playbook.
    """

    plan: Plan
    variables: Mapping[str, Any] = field(default_factory=dict)


def standing(plan: Plan, on_output: Callable[[str], None] | None = None) -> Standing:
    """Ask all nodes of a plan."""
    jobs, ledger = _look(plan.fleet, plan.run_id, on_output)
    return Standing(jobs, tuple(candidates(ledger)), ledger.silent)


def misfits(plan: Plan, on_output: Callable[[str], None] | None = None) -> list[Finding]:
    """Why a new run could not go on from the checkpoint of the run that its file names.

    Where a path is named, or nodes have no such run, the stage train looks itself.
    """
    resume = plan.spec.resume
    if resume is None or resume.run is None or plan.spec.method.backend == "swift":
        return []
    _, ledger = _look(plan.fleet, resume.run, on_output)
    found = chosen(ledger, resume)
    return [] if found is None else fits(found, plan.spec, any_size=plan.fleet.device == "cpu")


def _look(
    fleet: Fleet, run_id: str, on_output: Callable[[str], None] | None
) -> tuple[dict[str, str], Ledger]:
    """Node -> state of a run's training job, and the run's checkpoints."""
    result = Nodes(fleet, on_output).play("checkpoints.standing", {"swiftops_run_id": run_id})
    silent = {item.node: str(item.data.get("msg", item.data)).strip() for item in result.failures}
    jobs = {
        node: str(data["state"])
        for node, data in result.data("job").items()
        if node not in silent and "state" in data
    }
    told = {
        node: data
        for node, data in result.data("checkpoint_ledger").items()
        if node not in silent and "checkpoints" in data
    }
    names = [node.name for node in fleet.members]
    return jobs, make_ledger(run_id, names, told, _folders(fleet, run_id), silent)


def _folders(fleet: Fleet, run_id: str) -> dict[str, dict[str, str]]:
    """Node -> folders that are looked into -> what they are of."""
    found = {}
    for node in fleet.members:
        paths = NodePaths(fleet.node_root(node), run_id)
        named = {TRAIN: paths.train, "resume": paths.resume}
        found[node.name] = {posixpath.normpath(path): name for name, path in named.items()}
    return found


def answers(fleet: Fleet, node: Node, on_output: Callable[[str], None] | None = None) -> str:
    """Why a node of a fleet, a spare perhaps, does not run commands; "" where it does."""
    alone = node.model_copy(update={"spare": False, "address": fleet.address(node)})
    nodes = Nodes(fleet.model_copy(update={"nodes": [alone]}), on_output)
    (result,) = nodes.execute(["true"])
    return "" if result.code == 0 else result.stderr.strip() or f"exit code {result.code}"


class Continuing:
    """Decides how a run's training goes on, and puts the plan for that in force.

    Args:
        store: Where the run is recorded.
        tell: Called with kind, stage and data of events.
        on_output: Called with what ansible-playbook itself prints.
    """

    def __init__(
        self, store: RunStore, tell: Tell, on_output: Callable[[str], None] | None = None
    ) -> None:
        self._store, self._tell, self._on_output = store, tell, on_output

    def start(self, plan: Plan, *, begun: bool) -> Start:
        """How training is to be started.

        Args:
            plan: The plan in force.
            begun: Whether it was started before, and is not asked for once more as a whole.

        Raises:
            StageFailedError: a node does not answer.
        """
        if not begun:
            return self._from_the_beginning(plan)
        told = standing(plan, self._on_output)
        for node, why in told.silent.items():
            raise StageFailedError(TRAIN, node, f"{why}\n{self._remedy(plan, node)}")
        decision = decide(told.jobs, told.found, len(plan.fleet.members))
        if decision.how is How.JOIN:
            return Start(plan)
        if told.found or set(told.jobs.values()) != {"absent"}:
            self._say(decision)
        if decision.checkpoint is None:
            return self._from_the_beginning(plan)
        resume = Resume.model_validate({"from": f"{plan.run_id}/{decision.checkpoint.name}"})
        variables = {"swiftops_resume_holder": decision.checkpoint.holder}
        return Start(self._resumed(plan, resume), variables)

    def _say(self, decision: Decision) -> None:
        checkpoint = decision.checkpoint
        told = {
            "checkpoint": checkpoint.name if checkpoint else "",
            "iteration": checkpoint.iteration if checkpoint else 0,
            "detail": decision.detail,
        }
        self._tell(EventKind.CONTINUED, TRAIN, told)

    def _from_the_beginning(self, plan: Plan) -> Start:
        """As the run file says; what the run went on from by itself is forgotten."""
        given = self._store.first_plan().spec.resume
        if plan.spec.resume == given:
            return Start(plan)
        return Start(self._resumed(plan, given), {"swiftops_resume_anew": True})

    def _resumed(self, plan: Plan, resume: Resume | None) -> Plan:
        if plan.spec.resume == resume:
            return plan
        new = replan.resumed(plan, resume)
        self._store.revise(new)
        return new

    def _remedy(self, plan: Plan, node: str) -> str:
        return (
            f"remedy: bring {node} back, or swiftops resume {plan.run_id} --runs "
            f"{self._store.folder.runs} --replace {node}=SPARE"
        )

    def replace(self, plan: Plan, pairs: Mapping[str, str], fleet: Fleet) -> Plan:
        """Put a plan with new nodes in force; the old ones are not asked for anything.

        Args:
            plan: The plan in force.
            pairs: Old node -> new node.
            fleet: With the new nodes in the old ones' places.

        Raises:
            StageFailedError: a new node does not answer, and could not be made ready; nothing is
                changed then.
        """
        for node in fleet.members:
            if node.name in pairs.values():
                self._make_ready(fleet, node)
        new = replan.with_fleet(plan, fleet)
        kept = self._store.revise(new)
        for stage in replan.repeated(plan.fleet, fleet):
            if self._store.stage_state(stage) is StageState.SUCCEEDED:
                self._store.update(stage, state=StageState.PENDING.value)
        self._keep_or_train(new, first=plan.fleet.members[0].name in pairs)
        said = ", ".join(f"{fresh} takes the place of {old}" for old, fresh in pairs.items())
        told = {"nodes": dict(pairs), "kept": kept, "detail": said}
        self._tell(EventKind.REPLACED, "", told)
        return new

    def _make_ready(self, after: Fleet, node: Node) -> None:
        """See to it that a new node runs commands; of a fleet that we make, make it.

        Other containers are let be, those of nodes that are gone too.
        """
        why = answers(after, node, self._on_output)
        if why and after.hosts:
            try:
                provision.up(
                    _on_used_hosts(after), spares=False, take_away=False, on_output=self._on_output
                )
                why = answers(after, node, self._on_output)
            except ProvisionError as problem:
                why = problem.failures.get(node.name, why)
        if why:
            raise StageFailedError("replace", node.name, f"it does not answer: {why}")

    def _keep_or_train(self, plan: Plan, *, first: bool) -> None:
        """Training that had ended goes on again if its last checkpoint went with a node."""
        if self._store.stage_state(TRAIN) is not StageState.SUCCEEDED:
            return
        if plan.spec.method.backend == "swift":
            lost = first  # which alone holds it
        else:
            found = standing(plan, self._on_output).found
            last = max((item.iteration for item in found), default=0)
            lost = not any(item.iteration == last and not item.lacking for item in found)
        if lost:
            said = "its last checkpoint is not whole without the nodes that are gone"
            self._store.update(TRAIN, state=StageState.STOPPED.value, error=said)

    def recover(self, plan: Plan, once_more: Again) -> Plan:
        """Before another try, let spares take the places of nodes that are lost.

        Raises:
            StageFailedError: a node does not answer, and no spare can take its place.
        """
        silent = standing(plan, self._on_output).silent
        lost = (*silent, *(name for name in once_more.broken if name not in silent))
        if not lost:
            return plan
        pairs = self._spares(plan, lost) if plan.spec.retry.spares else {}
        for node in silent:
            if node not in pairs:
                detail = f"{silent[node]}\nno spare can take its place"
                raise StageFailedError(TRAIN, node, f"{detail}\n{self._remedy(plan, node)}")
        return self.replace(plan, pairs, replan.replaced(plan.fleet, pairs)) if pairs else plan

    def _spares(self, plan: Plan, lost: Iterable[str]) -> dict[str, str]:
        """Lost node -> a spare that answers."""
        fleet, dead = plan.fleet, set[str]()
        by_name = {node.name: node for node in fleet.spares}
        while True:
            pairs = assign(fleet, lost, dead)
            mute = {
                new
                for new in pairs.values()
                if answers(fleet, by_name[new], self._on_output) and not fleet.hosts
            }
            if not mute:
                return pairs
            dead |= mute


def _on_used_hosts(fleet: Fleet) -> Fleet:
    """The fleet without hosts that have no node: one of them may be what was lost."""
    used = {fleet.host_of(node).name for node in fleet.nodes}
    return fleet.model_copy(update={"hosts": [host for host in fleet.hosts if host.name in used]})
