"""What a run takes from outside, where it lies on each node, and how it gets there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

from pyswiftops.paths import FetchedFolder, NodePaths
from pyswiftops.specs.run import RunSpec
from pyswiftops.specs.sources import At, DataSource, HubAccess, Source
from pyswiftops.stages.node import NodeFacts

Origin = Literal["hub", "first_node", "controller"]
_DIGITS = 12


@dataclass(frozen=True)
class Item:
    """A model or rows of a run.

    Attributes:
        kind: ``models`` or ``datasets``.
        source: Where it comes from.
    """

    kind: Literal["models", "datasets"]
    source: Source

    @property
    def is_fetched(self) -> bool:
        """Whether nodes have it only once the stage fetch has brought it."""
        return self.source.id is not None or self.source.at is not At.NODES

    @property
    def label(self) -> str:
        """What messages call it."""
        return str(self.source.id or self.source.path)

    @property
    def suffix(self) -> str:
        """What ms-swift is told after the path."""
        return self.source.suffix if isinstance(self.source, DataSource) else ""

    @property
    def file(self) -> str:
        """The file's name, where the source is one file."""
        is_file = isinstance(self.source, DataSource) and self.source.is_row_file
        return PurePosixPath(str(self.source.path)).name if is_file else ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Its folder below a node's hub folder.

        The last part is the name that ms-swift knows the model or dataset by.
        """
        source = self.source
        if source.id is not None:
            revision = quote(source.at_revision, safe="")
            return (source.from_hub.value, self.kind, revision, *source.id.split("/"))
        path = PurePosixPath(str(source.path))
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:_DIGITS]
        name = () if self.file else (path.name,)
        return (source.at.value, self.kind, digest, *name)

    def folder(self, root: str) -> FetchedFolder:
        """Its folder on the node of that root."""
        return NodePaths(root, "").fetched(*self.parts)

    @property
    def in_place(self) -> bool:
        """Whether the first node reads it where it lies."""
        return self.source.at is At.FIRST_NODE

    def path_on(self, node: NodeFacts) -> str:
        """What later stages read on ``node``."""
        if not self.is_fetched or (self.in_place and node.rank == 0):
            return str(self.source.path)
        return str(PurePosixPath(self.folder(node.root).folder, self.file))

    def origin(self, hub: HubAccess) -> Origin:
        """Where its bytes come from; a mirror stands for all hubs."""
        if self.source.id is None:
            return "controller" if self.source.at is At.CONTROLLER else "first_node"
        return hub.mirror_at if hub.mirror else "hub"

    def where(self, hub: HubAccess) -> str:
        """Where its bytes come from, in words."""
        origin = self.origin(hub)
        if origin == "hub":
            return f"{self.source.from_hub.value} ({self.source.at_revision})"
        place = "the controller" if origin == "controller" else "the first node"
        return f"{self.origin_path(hub)} on {place}"

    def origin_path(self, hub: HubAccess) -> str:
        """The path there; none in a hub. A mirror is laid out like a node's hub folder."""
        if self.source.id is None:
            return str(self.source.path)
        return str(PurePosixPath(hub.mirror, *self.parts)) if hub.mirror else ""


def model_item(spec: RunSpec) -> Item:
    """The base model."""
    return Item("models", spec.model)


def data_items(spec: RunSpec) -> tuple[Item, ...]:
    """The training rows, in order."""
    return tuple(Item("datasets", source) for source in spec.data.train)


def fetched_items(spec: RunSpec) -> tuple[Item, ...]:
    """Whatever the stage fetch brings, each folder once."""
    items = {item.parts: item for item in (model_item(spec), *data_items(spec)) if item.is_fetched}
    return tuple(items.values())


def fetch_steps(spec: RunSpec, nodes: Sequence[NodeFacts]) -> list[dict[str, Any]]:
    """What the playbook of the stage fetch needs to know of each item, as plain data.

    ``rounds`` is a tree over the nodes: in each round every node that has the item hands it to
    one that has not, so that no node's network carries it more than a few times.
    """
    hub, names = nodes[0].hub, [node.name for node in nodes]
    return [
        {
            "label": item.label,
            "origin": item.origin(hub),
            "path": item.origin_path(hub),
            "in_place": item.in_place,
            "folders": {
                node.name: {
                    "folder": item.folder(node.root).folder,
                    "staging": item.folder(node.root).staging,
                    "record": item.folder(node.root).record,
                }
                for node in nodes
            },
            "rounds": rounds(names),
        }
        for item in fetched_items(spec)
    ]


def rounds(names: Sequence[str]) -> list[dict[str, str]]:
    """Who pulls from whom, round by round: destination -> source; the first name has it."""
    found = []
    have = 1
    while have < len(names):
        pulls = zip(names[have : 2 * have], names[:have], strict=False)
        found.append(dict(pulls))
        have *= 2
    return found
