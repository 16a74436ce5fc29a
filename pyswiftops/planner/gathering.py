"""What a gather has to bring, from which node, and why it may not: pure, on what nodes told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pyswiftops.errors import BadInputError, Finding

INDEX = ".metadata"
SHARD = ".distcp"
SPREAD_SECONDS = 900.0
"""Files of one save are written within minutes; a shard that is older is of another save."""

Reach = Mapping[str, Any]


@dataclass(frozen=True)
class Held:
    """What one node holds of a checkpoint, as the module ``checkpoint_ledger`` tells it.

    Attributes:
        node: The node's name.
        path: The folder there that names of files begin at, absolute.
        iter_dir: Name of the folder of shards in it; "" where there is none.
        files: Relative path -> ``size`` (bytes), ``mtime_ns`` and ``identity`` (the same for a
            file that is seen on several nodes through a shared disk).
        needed: Relative path -> bytes that the index asks for; empty where no index is here.
        index_digest: Of the index; "" where the node has none.
        refused: Why the index must not be loaded; "" where it may.
        skew: Seconds that the node's clock is ahead of the controller's.
    """

    node: str
    path: str
    iter_dir: str
    files: Mapping[str, Mapping[str, Any]]
    needed: Mapping[str, int] = field(default_factory=dict)
    index_digest: str = ""
    refused: str = ""
    skew: float = 0.0

    @classmethod
    def from_told(cls, node: str, told: Mapping[str, Any], skew: float = 0.0) -> Held:
        """Read one checkpoint of the module's answer."""
        folder = told.get("iter_dir")
        return cls(
            node=node,
            path=str(told["base"]),
            iter_dir=PurePosixPath(folder).name if folder else "",
            files=told["files"],
            needed=told.get("needed") or {},
            index_digest=told.get("index_digest") or "",
            refused=_why_refused(told),
            skew=skew,
        )

    def written(self, name: str) -> float:
        """When a file was written, in seconds since the epoch by the controller's clock."""
        return float(self.files[name]["mtime_ns"]) / 1e9 - self.skew


def _why_refused(told: Mapping[str, Any]) -> str:
    named = [name for name in told.get("damaged") or () if name.endswith(INDEX)]
    if not (told.get("refused") or named):
        return ""
    return next((text for text in told["problems"] if INDEX in text), "an index that is none")


@dataclass(frozen=True)
class Chosen:
    """One checkpoint, wherever parts of it lie.

    Attributes:
        name: As ``swiftops ckpt ls`` shows it.
        iteration: The step that it was saved after; None where it is not known.
        copies: What each node holds of it.
    """

    name: str
    iteration: int | None
    copies: tuple[Held, ...]

    def place(self, node: str, gathered: str, options: Options) -> str:
        """Where it goes on a node by default: to its own files there, else below ``gathered``."""
        here = next((copy.path for copy in self.copies if copy.node == node), None)
        if here is not None and not options.weights_only:
            return here
        label = self.name.rpartition("/")[2] if self.iteration is None else self.iteration
        return str(PurePosixPath(gathered, f"checkpoint-{label}"))


def choose(told: Mapping[str, Mapping[str, Any]], name: str, now: float) -> Chosen:
    """The checkpoint of a name, or the newest that Megatron wrote.

    Args:
        told: node -> what the module ``checkpoint_ledger`` returned there.
        name: Its name, the last part of it, or the iteration; "" for the newest.
        now: Seconds since the epoch by the controller's clock, when the nodes had just told.

    Raises:
        BadInputError: there is none, or the name fits several.
    """
    by_name: dict[str, list[Held]] = {}
    iterations: dict[str, int | None] = {}
    for node, answer in told.items():
        skew = float(answer.get("now") or now) - now
        for item in answer["checkpoints"]:
            if item.get("iter_dir") is None or item.get("merged"):
                continue
            found = str(item["name"])
            by_name.setdefault(found, []).append(Held.from_told(node, item, skew))
            if iterations.get(found) is None:
                iterations[found] = item.get("iteration")
    fitting = [
        found
        for found in by_name
        if name in {"", found, found.rpartition("/")[2], str(iterations[found])}
    ]
    if not fitting or (name and len(fitting) > 1):
        raise BadInputError(
            Finding(
                name or "a checkpoint with shards",
                ", ".join(sorted(by_name)) or "none",
                ", ".join(told),
                "name one of those (swiftops ckpt ls)" if by_name else "train first",
            )
        )
    newest = max(
        fitting, key=lambda found: (iterations[found] or 0, len(by_name[found]), found)
    )  # a copy of the link last-checkpoint lies on one node alone
    return Chosen(newest, iterations[newest], tuple(by_name[newest]))


@dataclass(frozen=True)
class Target:
    """Where a gather goes.

    Attributes:
        node: A node's name, or ``controller``.
        path: The checkpoint's folder there, absolute.
    """

    node: str
    path: str


@dataclass(frozen=True)
class Options:
    """How a gather is done.

    Attributes:
        weights_only: Leave optimizer and random generators behind.
        rate: Bytes a second of each source at most; 0 for as fast as it goes.
        check: Compare bytes even where sizes and times agree.
        sync: Write through to the disk; before sources are deleted.
        any_time: Take shards whatever their times.
    """

    weights_only: bool = False
    rate: int = 0
    check: bool = False
    sync: bool = False
    any_time: bool = False


@dataclass(frozen=True)
class GatherPlan:
    """What a gather will do.

    Attributes:
        target: Where it goes.
        iter_dir: Name of the folder of shards.
        takes: Node -> relative paths that it gives.
        bytes: Node -> their bytes, optimizer included.
        request: For ``pyswiftops.checkpoints.receive`` on the target's node.
    """

    target: Target
    iter_dir: str
    takes: Mapping[str, tuple[str, ...]]
    bytes: Mapping[str, int]
    request: Mapping[str, Any]

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.bytes.values())

    def lines(self, rate: float = 0.0) -> list[str]:
        """The plan in sentences; with a rate in bytes a second, how long it takes."""
        found = [
            f"{node}: {len(names)} files, {self.bytes[node] / 1e9:.2f} GB"
            for node, names in self.takes.items()
        ]
        seconds = f", about {self.total / rate:.0f} s at {rate / 1e6:.0f} MB/s" if rate else ""
        where = f"{self.target.node}:{self.target.path}"
        return [*found, f"to {where}: {self.total / 1e9:.2f} GB{seconds}", *self._transport()]

    def _transport(self) -> list[str]:
        """How bytes come from other machines."""
        others = [part for part in self.request["parts"] if part["remote"] is not None]
        way = "ssh, encrypted"
        if all(part.get("trusted") for part in others):
            way = "plain TCP, proven through ssh (trusted_network)"
        elif all(part.get("direct") for part in others):
            way = "TLS, proven through ssh; or ssh, where there is no way beside it"
        return [f"transport: {way}; every chunk proven by its hash"] if others else []


def plan_gather(
    held: Iterable[Held], reach: Mapping[str, Reach], target: Target, options: Options
) -> GatherPlan:
    """Decide who gives what.

    Args:
        held: What every node holds, in rank order; nodes that hold nothing are left out.
        reach: Node -> how the target's node reaches it: ``remote`` (host, port, user,
            ssh_options; None on the same machine), ``python``, ``direct`` and ``trusted``.
        target: Where it goes.
        options: How.

    Raises:
        BadInputError: with every reason why the checkpoint would not be whole.
    """
    copies = list(held)
    if not copies:
        raise BadInputError(
            Finding(
                "a checkpoint on a node", "none", "the fleet", "see what is there: swiftops ckpt ls"
            )
        )
    iter_dir = next((copy.iter_dir for copy in copies if copy.iter_dir), "")
    index_of = _index_holder(copies)
    findings = _conflicts(copies, index_of, iter_dir, options)
    giver = _givers(copies, target, index_of)
    if not any(copy.refused for copy in copies):
        findings += _lacking(copies, index_of, giver, iter_dir)
    if findings:
        raise BadInputError(findings)
    in_place = {
        copy.node for copy in copies if (copy.node, copy.path) == (target.node, target.path)
    }
    takes: dict[str, list[str]] = {}
    for name, copy in sorted(giver.items()):
        if copy.node not in in_place:
            takes.setdefault(copy.node, []).append(name)
    by_node = {copy.node: copy for copy in copies}
    parts = [
        {
            "node": node,
            "path": by_node[node].path,
            **({"remote": None, "python": "python3"} | dict(reach[node])),
            "rate": options.rate,
            "files": {name: _entry(by_node[node].files[name]) for name in names},
        }
        for node, names in takes.items()
    ]
    number = iter_dir.removeprefix("iter_")
    request = {
        "parts": parts,
        "tracker": str(int(number)) if number.isdigit() else "",
        "dest": target.path,
        "iter_dir": iter_dir,
        "weights_only": options.weights_only,
        "check": options.check,
        "sync": options.sync,
    }
    sizes = {
        node: sum(int(by_node[node].files[name]["size"]) for name in names)
        for node, names in takes.items()
    }
    named = {node: tuple(names) for node, names in takes.items()}
    return GatherPlan(target, iter_dir, named, sizes, request)


def _entry(told: Mapping[str, Any]) -> dict[str, int]:
    return {"size": int(told["size"]), "mtime_ns": int(told["mtime_ns"])}


def _index_holder(copies: Iterable[Held]) -> Held | None:
    return next((copy for copy in copies if copy.index_digest), None)


def _givers(copies: list[Held], target: Target, index_of: Held | None) -> dict[str, Held]:
    """File -> the copy to take it from.

    What the target's node has stays where it is; index, tracker and arguments come from the node
    that wrote the index, others from the node that holds them as the index asks, the one that has
    least to give first.
    """
    giver: dict[str, Held] = {}
    load = dict.fromkeys((copy.node for copy in copies), 0)
    needed = index_of.needed if index_of else {}
    names = sorted({name for copy in copies for name in copy.files})
    for name in names:
        holders = [copy for copy in copies if name in copy.files]
        exact = needed.get(name)
        right = [copy for copy in holders if exact in {None, int(copy.files[name]["size"])}]
        here = [copy for copy in right if copy.node == target.node]
        if not name.endswith(SHARD) and index_of in holders:
            here = here or [copy for copy in holders if copy is index_of]
        pick = min(here or right or holders, key=lambda copy: load[copy.node])
        giver[name] = pick
        load[pick.node] += int(pick.files[name]["size"])
    return giver


def _conflicts(
    copies: list[Held], index_of: Held | None, iter_dir: str, options: Options
) -> list[Finding]:
    """Copies that cannot be of one save."""
    findings = [
        Finding(
            f"a {INDEX} that Megatron wrote",
            copy.refused,
            f"{copy.node}:{copy.path}",
            "bring it again from the node of rank 0, or take another iteration",
        )
        for copy in copies
        if copy.refused
    ]
    digests = {copy.node: copy.index_digest for copy in copies if copy.index_digest}
    if len(set(digests.values())) > 1:
        findings.append(
            Finding(
                f"one and the same {INDEX} wherever it lies",
                f"different ones on {', '.join(digests)}",
                iter_dir,
                "a node came back with an older disk, or two trainings wrote here: remove or move "
                "away the wrong copy, then gather again",
            )
        )
    folders = {copy.iter_dir for copy in copies if copy.iter_dir}
    if len(folders) > 1:
        findings.append(
            Finding(
                "shards of one iteration",
                ", ".join(sorted(folders)),
                ", ".join(copy.node for copy in copies),
                "name one iteration of them",
            )
        )
    findings += _different_copies(copies)
    if index_of is not None and not options.any_time:
        findings += _other_saves(copies, index_of, iter_dir)
    return findings


def _different_copies(copies: list[Held]) -> list[Finding]:
    """Shards of which two nodes have different files."""
    findings = []
    for name in sorted({name for copy in copies for name in copy.files if name.endswith(SHARD)}):
        holders = [copy for copy in copies if name in copy.files]
        states = {
            (int(copy.files[name]["size"]), int(copy.files[name]["mtime_ns"])) for copy in holders
        }
        if len(states) > 1:
            findings.append(
                Finding(
                    f"one {name}",
                    "files of different sizes or times on "
                    + ", ".join(copy.node for copy in holders),
                    "the fleet",
                    "remove the wrong one: the rank's own node wrote the right one",
                )
            )
    return findings


def _other_saves(copies: list[Held], index_of: Held, iter_dir: str) -> list[Finding]:
    """Shards whose times say that they were not saved with this index."""
    saved = index_of.written(f"{iter_dir}/{INDEX}")
    findings = []
    for copy in copies:
        apart = {
            name: saved - copy.written(name)
            for name in copy.files
            if name.endswith(SHARD) and abs(saved - copy.written(name)) > SPREAD_SECONDS
        }
        if apart:
            name = max(apart, key=lambda name: abs(apart[name]))
            way = "before" if apart[name] > 0 else "after"
            findings.append(
                Finding(
                    f"shards that were saved with {INDEX}",
                    f"{len(apart)} that were written up to {abs(apart[name]):.0f} s {way} it, "
                    f"such as {name}",
                    f"{copy.node}:{copy.path}",
                    "that node has an older disk, or files of another iteration: remove them "
                    "there; if they are right, gather with --any-time",
                )
            )
    return findings


def _lacking(
    copies: list[Held], index_of: Held | None, giver: Mapping[str, Held], iter_dir: str
) -> list[Finding]:
    """What no node has, or none whole."""
    if not iter_dir:
        return []
    nodes = ", ".join(copy.node for copy in copies)
    if index_of is None:
        return [
            Finding(
                f"{iter_dir}/{INDEX} on a node",
                "none",
                nodes,
                "the node of rank 0 writes it, hidden from a shell's *: bring it back, or take "
                "another iteration (swiftops ckpt ls)",
            )
        ]
    findings = []
    for name, least in index_of.needed.items():
        copy = giver.get(name)
        size = int(copy.files[name]["size"]) if copy else None
        if size is None or size < least:
            where = f"{copy.node}:{copy.path}" if copy else nodes
            found = "none" if size is None else f"{size} bytes"
            findings.append(
                Finding(
                    f"{name} of {least} bytes",
                    found,
                    where,
                    "bring back the node that wrote it, or take another iteration "
                    "(swiftops ckpt ls)",
                )
            )
    return findings
