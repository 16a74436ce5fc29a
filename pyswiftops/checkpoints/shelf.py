"""The SDK's part for checkpoints: what there is on the nodes of a run, or in adopted folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyswiftops.checkpoints import adopted, moving, usage
from pyswiftops.checkpoints.adopted import Adopted
from pyswiftops.checkpoints.ledger import ADOPTED, TRAIN, Checkpoint, Holding, Ledger
from pyswiftops.checkpoints.merging import make_ledger
from pyswiftops.checkpoints.moving import Gathered
from pyswiftops.checkpoints.retention import Choice, Keep, decide
from pyswiftops.errors import BadInputError, Finding, StageFailedError
from pyswiftops.nodes import Nodes
from pyswiftops.paths import NodePaths, RunFolder, check_run_id
from pyswiftops.planner.gathering import Options
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import RunStore

Roots = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Source:
    """Where checkpoints are looked for.

    Attributes:
        name: The run's id, or the name of adopted folders.
        fleet: The machines.
        roots: Node -> folder -> what its checkpoints are of.
        run: Whether a run made them.
    """

    name: str
    fleet: Fleet
    roots: Roots
    run: bool

    def of_trainings(self) -> Source:
        """Without conversions, exports and what was gathered apart."""
        own = {
            node: {folder: what for folder, what in folders.items() if what in {TRAIN, ADOPTED}}
            for node, folders in self.roots.items()
        }
        return replace(self, roots=own)

    def prunable(self, node: str) -> list[str]:
        """Folders of a node that checkpoints may be removed from."""
        roots = self.roots.get(node, {})
        return [folder for folder, of in roots.items() if of in (TRAIN, ADOPTED)]


@dataclass(frozen=True)
class PrunePlan:
    """What would be removed, and why the rest stays.

    Attributes:
        source: Where the checkpoints lie.
        ledger: All that there are.
        choices: What becomes of each.
    """

    source: Source
    ledger: Ledger
    choices: tuple[Choice, ...]

    @property
    def goes(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that would be removed."""
        return tuple(choice.checkpoint for choice in self.choices if not choice.keep)

    @property
    def bytes(self) -> int:
        """What would be freed; files on a shared disk count once."""
        return sum(item.bytes_on_disks for item in self.goes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        choices = [choice.to_dict() for choice in self.choices]
        return {"name": self.source.name, "bytes": self.bytes, "choices": choices}


@dataclass(frozen=True)
class Pruned:
    """What was removed, and what is left.

    Attributes:
        removed: Node -> folders that were removed there.
        ledger: What a scan afterwards found.
    """

    removed: Mapping[str, tuple[str, ...]]
    ledger: Ledger

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        removed = {node: list(folders) for node, folders in self.removed.items()}
        return {"removed": removed, "left": self.ledger.to_dict()}


class Checkpoints:
    """Checkpoints of runs and of adopted folders.

    Args:
        runs: Folder that holds the runs' folders.
        on_output: Called with what ansible-playbook itself prints; it is quiet without.
    """

    def __init__(self, runs: Path, on_output: Callable[[str], None] | None = None) -> None:
        self.runs, self._on_output = runs, on_output

    def names(self) -> list[str]:
        """Ids of all runs, then names of adopted folders."""
        return adopted.known(self.runs)

    def source(self, name: str) -> Source:
        """Where the checkpoints of a run, or adopted ones, are looked for.

        Raises:
            RunNotFoundError: there is neither.
        """
        folder = RunFolder(self.runs, check_run_id(name))
        if folder.state.exists():
            RunStore(folder).load()
            fleet = Fleet.load(folder.fleet)
            return Source(name, fleet, _roots_of_run(fleet, name), run=True)
        found = Adopted.load(self.runs, name)
        return Source(name, found.fleet, _roots_of(found), run=False)

    def ls(self, name: str) -> Ledger:
        """Ask the nodes which checkpoints they hold; changes nothing.

        Args:
            name: A run's id, or a name from :meth:`adopt`.

        Raises:
            RunNotFoundError: there is neither.
        """
        return self.look(self.source(name))[0]

    def adopt(self, name: str, fleet: Fleet, places: Iterable[str]) -> Ledger:
        """Keep folders that no run here made under a name, once all of them were found.

        Args:
            name: What they are to be called.
            fleet: The machines.
            places: ``NODE:/FOLDER`` each: a checkpoint, or what holds some.

        Returns:
            What lies in them.

        Raises:
            BadInputError: a folder is not there, none holds a checkpoint, a node does not answer,
                or the name is taken; nothing is kept then.
        """
        fleet = fleet.everyone()  # a spare may hold some
        wanted = Adopted(name, fleet, adopted.parse_places(fleet, places))
        adopted.check_free(self.runs, wanted)
        source = Source(name, fleet, _roots_of(wanted), run=False)
        ledger, lacking = self.look(source)
        findings = [
            Finding("a folder", "none", f"{node}:{folder}", "name another")
            for node, folders in lacking.items()
            for folder in folders
        ]
        findings += [
            Finding("an answer", text, node, "see docs/how-to/reach-nodes.md")
            for node, text in ledger.silent.items()
        ]
        if not findings and not ledger.checkpoints:
            where = ", ".join(
                f"{node}:{folder}" for node in wanted.places for folder in wanted.places[node]
            )
            findings.append(Finding("a checkpoint", "none", where, "name the folder above it"))
        if findings:
            raise BadInputError(findings)
        wanted.save(self.runs)
        return ledger

    def gather(
        self,
        name: str,
        checkpoint: str = "",
        *,
        to: str = "",
        options: Options = Options(),  # noqa: B008 frozen
        only_plan: bool = False,
        delete_sources: bool = False,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> Gathered:
        """Bring a checkpoint from all nodes to one place, whole.

        Args:
            name: A run's id, or a name from :meth:`adopt`.
            checkpoint: Which one, as :meth:`ls` names it; the newest without.
            to: A node, ``controller``, or one of them with ``:/FOLDER``; the first node without.
            options: How.
            only_plan: Say what would be brought, and change nothing.
            delete_sources: Remove it everywhere else then, but only once what is there can be
                resumed and exported by itself; it is written through to the disk before.
            tell: Called with a sentence of progress, at most about every second.

        Raises:
            RunNotFoundError: there is no such name.
            BadInputError: the checkpoint would not be whole, or the target is none.
            StageFailedError: a node did not answer, or it could not be brought; what has arrived
                is kept for the next attempt.
        """
        source = self.source(name).of_trainings()
        if delete_sources:
            options = moving.for_good(options)
        told, silent = self._ask(source)
        if silent:
            node, text = next(iter(silent.items()))
            raise StageFailedError("ckpt gather", node, text)
        place = to or next(iter(source.roots))
        chosen, found = moving.plan(
            source.fleet, told, name, checkpoint=checkpoint, to=place, options=options
        )
        if only_plan:
            lines = tuple(found.lines(moving.rate_of(source.fleet, found)))
            return Gathered(chosen.name, found.target, lines, found.total)
        lines = tuple(found.lines())
        answer = moving.carry_out(source.fleet, name, found, tell)
        done = {key: answer.get(key, 0) for key in ("bytes", "moved", "seconds")}
        removed: Mapping[str, tuple[str, ...]] = {}
        if delete_sources:
            moving.require_stand_in(found.target, answer["stands"])
            asked = [node for node in source.roots if node in told]
            ledger = make_ledger(name, asked, told, source.roots)
            (item,) = [item for item in ledger.checkpoints if item.name == chosen.name]
            here = (found.target.node, found.target.path)
            others = [held for held in item.holdings if (held.node, held.path) != here]
            removed = self._remove(source, others)
        return Gathered(chosen.name, found.target, lines, removed=removed, **done)

    def prune_plan(self, name: str, keep: Keep) -> PrunePlan:
        """Say which checkpoints would be removed; changes nothing.

        Args:
            name: A run's id, or a name from :meth:`adopt`.
            keep: What is kept of each training.

        Raises:
            RunNotFoundError: there is neither.
            BadInputError: a node does not answer, or the best checkpoint is not known.
            StageFailedError: a node does not tell of its jobs.
        """
        source = self.source(name)
        ledger, _ = self.look(source)
        if source.run and not ledger.silent:
            nodes = Nodes(source.fleet, self._on_output)
            at_work = usage.of_run(self.runs, name, nodes, ledger)
        else:
            at_work = usage.of_adopted(self.runs, ledger)
        return PrunePlan(source, ledger, decide(ledger, keep, at_work))

    def prune(self, plan: PrunePlan) -> Pruned:
        """Remove what a plan says, on all nodes.

        Every node looks first whether each folder is still what the plan saw, and is used by
        nobody; if one is not, nothing is removed on any node.

        Args:
            plan: From :meth:`prune_plan`.

        Raises:
            StageFailedError: something stands against it, or a folder could not be removed.
        """
        held = [held for item in plan.goes for held in item.holdings]
        return Pruned(self._remove(plan.source, held), self.look(plan.source)[0])

    def _remove(self, source: Source, held: Iterable[Holding]) -> dict[str, tuple[str, ...]]:
        """Remove folders if all of them are as they were; node -> what was removed there."""
        nodes = Nodes(source.fleet, self._on_output)
        folders: dict[str, dict[str, str]] = {node: {} for node in nodes.names}
        for item in held:
            folders[item.node][item.path] = item.fingerprint
        wanted = {
            node: {"roots": source.prunable(node), "checkpoints": here}
            for node, here in folders.items()
        }
        result = nodes.play("checkpoints.prune", {}, {"swiftops_prune_file": wanted})
        if not result.ok:
            failure = result.failures[-1]
            message = str(failure.data.get("msg", failure.data))
            raise StageFailedError("prune", failure.node, message)
        answers = result.data("checkpoint_prune")
        return {node: tuple(answer["removed"]) for node, answer in answers.items()}

    def look(self, source: Source) -> tuple[Ledger, dict[str, list[str]]]:
        """The ledger, and node -> folders that are not there."""
        told, silent = self._ask(source)
        lacking = {node: list(answer["missing"]) for node, answer in told.items()}
        asked = [node.name for node in source.fleet.nodes if node.name in source.roots]
        return make_ledger(source.name, asked, told, source.roots, silent), lacking

    def _ask(self, source: Source) -> tuple[dict[str, Any], dict[str, str]]:
        """Node -> what it told of its folders; node -> why it told nothing."""
        paths = {node: list(folders) for node, folders in source.roots.items()}
        nodes = Nodes(source.fleet, self._on_output)
        everywhere = {node: paths.get(node, []) for node in nodes.names}
        result = nodes.play("checkpoints.ledger", {}, {"swiftops_paths_file": everywhere})
        told = result.data("checkpoint_ledger")
        failed = {item.node: str(item.data.get("msg", item.data)) for item in result.failures}
        told = {node: told[node] for node in nodes.names if node in told and node not in failed}
        silent = {
            node: failed.get(node, "it was not asked").strip() for node in paths if node not in told
        }
        return told, silent


def _roots_of(found: Adopted) -> Roots:
    return {node: dict.fromkeys(folders, ADOPTED) for node, folders in found.places.items()}


def _roots_of_run(fleet: Fleet, run_id: str) -> Roots:
    roots = {}
    for node in fleet.members:
        paths = NodePaths(fleet.node_root(node), run_id)
        folders = (TRAIN, "gathered", "mcore", "export")
        roots[node.name] = {getattr(paths, folder): folder for folder in folders}
    return roots
