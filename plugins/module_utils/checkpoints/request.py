# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What is to be gathered, as the controller asks, and how far it is. Python 3.9 and later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, rsync, transfer
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import stream
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.errors import GatherError


@dataclass(frozen=True)
class Part:
    """What one node gives.

    Attributes:
        source: The node and its folder.
        files: Relative path -> ``size`` (bytes) and ``mtime_ns``, as they were listed there.
    """

    source: stream.Source
    files: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Request:
    """What is to be gathered.

    Attributes:
        parts: Who gives what; no file twice.
        dest: The folder to fill: a checkpoint.
        iter_dir: Name of the folder of shards in it, such as ``iter_0000010``; "" for none.
        tracker: What the tracker file says in ``dest``; "" leaves the source's. Before ms-swift
            3.12 several iterations share one.
        weights_only: Leave optimizer and random generators behind.
        check: Compare the bytes of what is here already, even where sizes and times agree.
        sync: Write everything through to the disk before anything gets its name.
        streams: Streams a source at most; 0 for as many as this machine can use.
    """

    parts: tuple[Part, ...]
    dest: Path
    iter_dir: str = ""
    tracker: str = ""
    weights_only: bool = False
    check: bool = False
    sync: bool = False
    streams: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        """Read what the controller wrote.

        Raises:
            GatherError: A name leads out of the folder, or it is no request.
        """
        try:
            parts = tuple(_part(item) for item in data["parts"])
            options = {name: data[name] for name in _OPTIONS if name in data}
            return cls(parts, Path(data["dest"]), **options)
        except (KeyError, TypeError, manifest.ManifestError, transfer.PullError) as error:
            raise GatherError(
                "a request to gather",
                f"{type(error).__name__}: {error}",
                "the request",
                "make it with swiftops ckpt gather",
            ) from error


_OPTIONS = ("iter_dir", "tracker", "weights_only", "check", "sync", "streams")


def _part(data: Mapping[str, Any]) -> Part:
    for name in data["files"]:
        manifest.safe_relative(name)
    given = data.get("remote")
    remote = rsync.Remote(path=data["path"], **given) if given else None
    options = {name: data[name] for name in ("python", "rate", "direct", "trusted") if name in data}
    source = stream.Source(data["node"], data["path"], remote, **options)
    return Part(source, data["files"])


@dataclass
class Progress:
    """How far a gather is, counted by all streams.

    Attributes:
        total: Bytes of all files.
        tell: Called with sentences of progress.
        moved: Node -> bytes that were sent.
        kept: Node -> bytes that were here already.
        transports: Node -> how its bytes come: ``ssh``, ``tls``, ``tcp`` or ``local``.
        began: When, on the monotonic clock.
        first: When the first bytes had come.
        last: When the last ones had.
    """

    total: int
    tell: Callable[[str], None] = lambda _line: None
    began: float = field(default_factory=time.monotonic)
    moved: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    transports: dict[str, str] = field(default_factory=dict)
    first: float = 0.0
    last: float = 0.0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, node: str, moved: int, kept: int) -> None:
        """Count bytes of a node."""
        with self._guard:
            now = time.monotonic()
            self.first = self.first or now
            self.last = now
            self.moved[node] = self.moved.get(node, 0) + moved
            self.kept[node] = self.kept.get(node, 0) + kept

    def came_by(self, node: str, transport: str) -> bool:
        """Note how a stream of a node comes; whether none of it has come so before."""
        with self._guard:
            known = self.transports.get(node)
            self.transports[node] = "ssh" if "ssh" in {known, transport} else transport
            return known != self.transports[node]

    @property
    def seconds(self) -> float:
        """From the first bytes to the last ones."""
        return max(1e-3, self.last - self.first)

    def line(self) -> str:
        """A sentence: percent, bytes, rate, time left; rate by node."""
        seconds = max(1e-3, time.monotonic() - self.began)
        moved = sum(self.moved.values())
        done = moved + sum(self.kept.values())
        rate = moved / seconds
        left = (self.total - done) / rate if rate else 0.0
        nodes = ", ".join(
            f"{node} {count / seconds / 1e6:.0f} MB/s" for node, count in sorted(self.moved.items())
        )
        return (
            f"gather: {100 * done // max(1, self.total)} %, {done / 1e9:.2f} of "
            f"{self.total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s, {left:.0f} s left ({nodes})"
        )
