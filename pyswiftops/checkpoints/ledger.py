"""Checkpoints over a fleet: which node holds what, is it whole, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyswiftops.checkpoints.verdicts import Verdict

TRAIN, ADOPTED = "train", "adopted"


@dataclass(frozen=True)
class Holding:
    """What one node holds of a checkpoint.

    Attributes:
        node: The node.
        path: The checkpoint's folder there.
        base: The folder that names of files begin at.
        root: The folder that was looked into.
        files: Name -> ``size`` (bytes), ``mtime_ns``, ``identity``.
        bytes: Of all files.
        good: How many of the files that are needed are here, whole.
        used_by: Processes that name it or have its files open.
        fingerprint: Of names, sizes and times of the files below ``path``.
    """

    node: str
    path: str
    base: str
    root: str
    files: Mapping[str, Mapping[str, Any]]
    bytes: int
    good: int = 0
    used_by: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def own_bytes(self) -> int:
        """Bytes below ``path``: without small files that other iterations share."""
        prefix = "" if self.path == self.base else f"{self.path[len(self.base) + 1 :]}/"
        return sum(item["size"] for name, item in self.files.items() if name.startswith(prefix))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint over all nodes.

    Attributes:
        of: ``train``, ``export``, ``mcore``; ``adopted`` of folders that no run made.
        name: The same on every node, from the folder that was looked into on.
        iteration: None where unknown.
        kind: mcore, mcore_lora, hf, hf_lora; empty where no node's files tell.
        forms: All of these that lie there.
        merged: Whether LoRA was merged into it.
        named_by: What names it: links that lead to it, such as ``last-checkpoint``, and a tracker
            that several iterations share.
        holdings: What each node holds, in rank order.
        shared: Groups of nodes that see the same files through a shared disk.
        needed: File -> the least bytes it must have.
        required: How many files it takes: those, and the small ones beside them.
        missing: Files that no node holds.
        short: Files of which every copy is too small, half written or damaged.
        conflicts: Sentences: what must not differ and does.
        complete: Whether the nodes together hold all of it.
        hf_complete: Whether a Hugging Face form beside the shards is complete.
        whole_on: The first node that holds all of it; empty if none does.
        bytes: Of the checkpoint, each file once.
        has_optimizer: None where nothing tells.
        has_rng: None where nothing tells.
        reshardable: Whether the optimizer can be loaded at other parallel sizes.
        parallel: Sizes that it was saved at, by name.
        swift_version: Of the ms-swift that saved it, where ``args.json`` tells.
        writing: Whether it may still be written.
        age: Seconds since its newest file, by that node's clock.
        resume: Whether training can go on from it.
        export: Whether it can become a Hugging Face model.
        problems: Sentences, with the node in front.
        best: Why it is the best of its training, by what that tells; empty if it is not.
    """

    of: str
    name: str
    iteration: int | None
    kind: str
    forms: tuple[str, ...]
    merged: bool
    named_by: tuple[str, ...]
    holdings: tuple[Holding, ...]
    shared: tuple[tuple[str, ...], ...]
    needed: Mapping[str, int]
    required: int
    missing: tuple[str, ...]
    short: tuple[str, ...]
    conflicts: tuple[str, ...]
    complete: bool
    hf_complete: bool
    whole_on: str
    bytes: int
    has_optimizer: bool | None
    has_rng: bool | None
    reshardable: bool | None
    parallel: Mapping[str, int]
    swift_version: str
    writing: bool
    age: float | None
    resume: Verdict
    export: Verdict
    problems: tuple[str, ...] = ()
    best: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is of, and its name: one checkpoint of a ledger has it."""
        return self.of, self.name

    @property
    def training(self) -> tuple[str, str]:
        """What all checkpoints of one training share."""
        return self.of, self.name.rpartition("/")[0]

    @property
    def title(self) -> str:
        """As people name it: a training's checkpoints by their name alone."""
        if self.name == ".":
            return self.of
        return self.name if self.of in (TRAIN, ADOPTED) else f"{self.of}/{self.name}"

    @property
    def bytes_on_disks(self) -> int:
        """Bytes on all disks together: of nodes that share one, the first counts."""
        again = {node for group in self.shared for node in group[1:]}
        return sum(item.own_bytes for item in self.holdings if item.node not in again)

    def holding(self, node: str) -> Holding | None:
        """What a node holds of it."""
        return next((item for item in self.holdings if item.node == node), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"title": self.title, **asdict(self)}


@dataclass(frozen=True)
class Ledger:
    """All checkpoints of a run, or of folders that were adopted.

    Attributes:
        name: The run's id, or the name that the folders were adopted under.
        nodes: In rank order.
        checkpoints: By what they are of, then by iteration.
        silent: Node -> why it did not answer; what it holds is unknown.
        problems: Node -> sentences on what could not be read there.
        used_by: Node -> folder that was looked into -> processes that use it.
    """

    name: str
    nodes: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    silent: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    used_by: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(replace(self, checkpoints=()))
        return {**plain, "checkpoints": [item.to_dict() for item in self.checkpoints]}
