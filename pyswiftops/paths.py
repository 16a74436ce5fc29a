"""Every file name of a run, on the controller and on the nodes. Nothing else joins paths."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyswiftops.errors import BadInputError, Finding

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_run_id(run_id: str) -> str:
    """The run id, if it may become a folder's name on the controller and on every node.

    Raises:
        BadInputError: it could lead out of the folder, be taken for a flag, or is too long.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise BadInputError(
            Finding(
                "a run id of letters, digits, '.', '_' and '-', at most 64, the first no sign",
                repr(run_id[:200]),
                "the run id",
                "name another, for instance --run-id try-2",
            )
        )
    return run_id


@dataclass(frozen=True)
class RunFolder:
    """A run's folder on the controller: all that is known of the run.

    Attributes:
        runs: The folder that holds all runs.
        run_id: The run's id.
    """

    runs: Path
    run_id: str

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self.runs / self.run_id

    @property
    def state(self) -> Path:
        """``run.json``."""
        return self.root / "run.json"

    @property
    def lock(self) -> Path:
        """Held by the controller that drives the run."""
        return self.root / "lock"

    @property
    def state_lock(self) -> Path:
        """Held for a moment by whoever changes ``run.json``."""
        return self.root / "state.lock"

    @property
    def fleet(self) -> Path:
        """The fleet file as it was when the run was planned."""
        return self.root / "fleet.yml"

    @property
    def plan(self) -> Path:
        """The plan: every command of every node."""
        return self.root / "plan.json"

    def kept_plan(self, number: int) -> Path:
        """A plan that another took the place of; the first one that was in force is 1."""
        return self.root / f"plan-{number}.json"

    def kept_fleet(self, number: int) -> Path:
        """The fleet file that went with it."""
        return self.root / f"fleet-{number}.yml"

    @property
    def events(self) -> Path:
        """Everything that happened, one event a line."""
        return self.root / "events.jsonl"

    @property
    def passport(self) -> Path:
        """What was run, on what, with what, and what came of it; JSON."""
        return self.root / "passport.json"

    @property
    def passport_page(self) -> Path:
        """The same as a page."""
        return self.root / "passport.html"

    @property
    def stop_request(self) -> Path:
        """There while the controller that drives the run is asked to stop."""
        return self.root / "stop"

    @property
    def private(self) -> Path:
        """Folders of mode 0700, each there while a playbook of the run needs it."""
        return self.root / "private"

    def hang(self, job: str) -> Path:
        """What the ranks of a hung job were doing on all nodes, to read."""
        return self.root / "hang" / f"{job}.txt"

    def hang_data(self, job: str) -> Path:
        """The same as data, by node."""
        return self.root / "hang" / f"{job}.json"

    @property
    def fault(self) -> Path:
        """Traceback of an internal fault of the controller."""
        return self.root / "fault.txt"

    def ansible(self, stage: str) -> Path:
        """ansible-runner's private data folder of a stage."""
        return self.root / "ansible" / stage

    def ansible_outputs(self) -> dict[str, Path]:
        """Stage -> what ansible-playbook printed last for it."""
        found = sorted(
            self.root.glob("ansible/*/artifacts/*/stdout"), key=lambda path: path.stat().st_mtime
        )
        return {path.parents[2].name: path for path in found}


@dataclass(frozen=True)
class RehearsalFolder:
    """Where a rehearsal keeps its two passes on the controller; no run id begins with a dot.

    Attributes:
        runs: The folder that holds all runs.
        name: The name of the run that is rehearsed.
    """

    runs: Path
    name: str

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self.runs / ".rehearsal" / self.name

    @property
    def first(self) -> Path:
        """The runs folder of the first pass."""
        return self.root / "first"

    @property
    def resumed(self) -> Path:
        """The runs folder of the pass that goes on from the first one's checkpoint."""
        return self.root / "resumed"

    @property
    def lock(self) -> Path:
        """Held by whoever rehearses the run."""
        return self.runs / f".rehearsal-{self.name}.lock"


@dataclass(frozen=True)
class AdoptedFile:
    """Where the controller keeps which folders were adopted under a name.

    Attributes:
        runs: The folder that holds all runs.
        name: The name; a run id's rules hold for it.
    """

    runs: Path
    name: str

    @classmethod
    def all(cls, runs: Path) -> list[AdoptedFile]:
        """Those that are there, by name."""
        return [cls(runs, path.stem) for path in sorted(runs.glob(".adopted/*.json"))]

    @property
    def path(self) -> Path:
        """The file, JSON."""
        return self.runs / ".adopted" / f"{self.name}.json"


def scratch_root(root: str, name: str) -> str:
    """The root that a node works in while the run ``name`` is rehearsed.

    It is short whatever the name: jobs make sockets below it, whose paths may have 107 bytes.
    """
    short = hashlib.sha256(name.encode()).hexdigest()[:8]
    return str(PurePosixPath(root, "rehearsal", short))


@dataclass(frozen=True)
class GatherFolder:
    """What ``swiftops ckpt gather`` keeps on the node that a checkpoint goes to.

    Attributes:
        root: The node's root, absolute.
        name: A run's id, or the name of adopted folders.
    """

    root: str
    name: str

    def _below(self, *parts: str) -> str:
        return str(PurePosixPath(self.root, "gathers", self.name, *parts))

    @property
    def job(self) -> str:
        """The job's folder."""
        return self._below("job")

    @property
    def requests(self) -> str:
        """What gathers were to bring, JSON files named by their content."""
        return self._below("requests")

    @property
    def checkpoints(self) -> str:
        """Where checkpoints go by default."""
        return self._below("checkpoints")


@dataclass(frozen=True)
class FabricFolder:
    """What ``swiftops check-fabric`` keeps on a node; the next check takes its place.

    Attributes:
        root: The node's root, absolute.
    """

    root: str

    def _below(self, *parts: str) -> str:
        return str(PurePosixPath(self.root, "fabric", *parts))

    @property
    def job(self) -> str:
        """The job's folder."""
        return self._below("job")

    @property
    def lease(self) -> str:
        """The port that the node listens on, JSON."""
        return self._below("lease.json")

    @property
    def work(self) -> str:
        """The folder that the program runs in."""
        return self._below("work")

    @property
    def program(self) -> str:
        """The program, as the controller sent it; a package of that folder."""
        return self._below("work", "node")

    @property
    def request(self) -> str:
        """What is to be measured, JSON."""
        return self._below("work", "request.json")

    @property
    def result(self) -> str:
        """What was measured, JSON."""
        return self._below("work", "result.json")


@dataclass(frozen=True)
class NodePaths:
    """A run's files on one node, below the node's own root.

    Attributes:
        root: The node's root, absolute.
        run_id: The run's id.
    """

    root: str
    run_id: str

    def _below(self, *parts: str) -> str:
        return str(PurePosixPath(self.root, *parts))

    @property
    def run(self) -> str:
        """Everything of the run on this node."""
        return self._below("runs", self.run_id)

    def job(self, job: str) -> str:
        """A job's folder: request, state, log, lock."""
        return self._below("runs", self.run_id, "jobs", job)

    def stacks(self, job: str) -> str:
        """What the processes of a hung job were doing."""
        return self._below("runs", self.run_id, "jobs", job, "stacks")

    def leases(self, job: str) -> str:
        """A job's leased ports, JSON."""
        return self._below("runs", self.run_id, "leases", f"{job}.json")

    def work(self, stage: str) -> str:
        """A job's working folder."""
        return self._below("runs", self.run_id, "work", stage)

    @property
    def lengths(self) -> str:
        """Token lengths that the data stage measured, JSON."""
        return self._below("runs", self.run_id, "data", "lengths.json")

    @property
    def mcore(self) -> str:
        """The base model in Megatron's format."""
        return self._below("runs", self.run_id, "mcore")

    @property
    def roundtrip(self) -> str:
        """The base model converted to Megatron's format and back."""
        return self._below("runs", self.run_id, "roundtrip")

    @property
    def train(self) -> str:
        """Training's output: checkpoints, logging.jsonl, tracker files."""
        return self._below("runs", self.run_id, "train")

    @property
    def resume(self) -> str:
        """The checkpoint that training goes on from, whole on every node."""
        return self._below("runs", self.run_id, "resume")

    @property
    def gathered(self) -> str:
        """Checkpoints that were gathered elsewhere than into training's output."""
        return self._below("runs", self.run_id, "gathered")

    @property
    def gather_requests(self) -> str:
        """What gathers to this node were to bring, JSON files named by their content."""
        return self._below("runs", self.run_id, "gather")

    @property
    def train_log(self) -> str:
        """Upstream's training log, on the node that the release line writes it on."""
        return self._below("runs", self.run_id, "train", "logging.jsonl")

    @property
    def export(self) -> str:
        """The trained model as an HF checkpoint."""
        return self._below("runs", self.run_id, "export")

    @property
    def quantized(self) -> str:
        """The export's quantised copy."""
        return self._below("runs", self.run_id, "export-quantized")

    @property
    def export_proof(self) -> str:
        """How the exported tensors compare with the checkpoint's, JSON."""
        return self._below("runs", self.run_id, "export_proof.json")

    @property
    def evaluation(self) -> str:
        """What an evaluation writes."""
        return self._below("runs", self.run_id, "eval")

    @property
    def samples(self) -> str:
        """The answers that the stage sample drew, JSON lines."""
        return self._below("runs", self.run_id, "sample", "samples.jsonl")

    def questions(self, job: str) -> str:
        """The questions that an infer job asks, JSON lines."""
        return self._below("runs", self.run_id, "infer", f"{job}-questions.jsonl")

    def answers(self, job: str) -> str:
        """What an infer job's model answered, JSON lines."""
        return self._below("runs", self.run_id, "infer", f"{job}-answers.jsonl")

    @property
    def cache(self) -> str:
        """Caches of ModelScope, Hugging Face and temporary files."""
        return self._below("cache")

    @property
    def hub(self) -> str:
        """Models and rows that were fetched; shared by the node's runs, as names hold revisions."""
        return self._below("hub")

    def fetched(self, *parts: str) -> FetchedFolder:
        """A fetched model or dataset."""
        return FetchedFolder(self._below("hub", *parts))


@dataclass(frozen=True)
class FetchedFolder:
    """A folder below a node's hub folder, and what lies beside it.

    Attributes:
        folder: The folder; it has this name only once it is whole.
    """

    folder: str

    def _beside(self, ending: str) -> str:
        path = PurePosixPath(self.folder)
        return str(path.with_name(f".{path.name}.{ending}"))

    @property
    def staging(self) -> str:
        """What is fetched so far; an interrupted fetch goes on from it."""
        return self._beside("fetching")

    @property
    def record(self) -> str:
        """What the folder holds: sizes, times and hashes, JSON."""
        return self._beside("json")

    @property
    def lock(self) -> str:
        """Held by the process that fetches it."""
        return self._beside("lock")
