# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Bring a checkpoint's files from the nodes that hold them into one folder, whole or not at all.

They arrive in a staging folder beside the target, over one stream or more a source, all at once.
What a gather that was cut off left there is gone on with. Only when every file is there, with the
hashes of its source, and the index names no shard that is missing, does anything get its final
name; the index and the tracker last. Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import (
    manifest,
    torch_dist,
    torch_dist_index,
    transfer,
)
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import (
    proof,
    slim,
    stream,
)
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.doors import (
    Doors,
    explained,
)
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.errors import GatherError
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.request import (
    Part,
    Progress,
    Request,
)

_LAST = (torch_dist_index.INDEX, torch_dist.TRACKER)
_LOOK_SECONDS = 1.0
_WHOLE = "whole"  # in the staging folder: the index as its source has it


def gather(request: Request, tell: Callable[[str], None] = lambda _line: None) -> dict[str, Any]:
    """Do what a request asks for.

    Args:
        request: What to gather.
        tell: Called with a sentence of progress about every second, and where there is no way
            beside ssh.

    Returns:
        ``dest``, ``bytes`` (of all files), ``moved`` (bytes that were sent), ``files`` (count),
        ``seconds``, ``by_node`` (node to bytes sent), ``transports`` (node to ``ssh``, ``tls``,
        ``tcp`` for plain connections, or ``local``), ``weights_only`` and ``left_out`` (bytes of
        shards that stayed behind).

    Raises:
        GatherError: It cannot be done; what has arrived is kept for the next attempt.
        RefusedGlobalError: The index names something that no checkpoint holds.
    """
    began = time.monotonic()
    staging = staging_of(request.dest)
    known = proof.record(request.dest)
    todo = [_without(part, request, known) for part in request.parts]
    index = f"{request.iter_dir}/{torch_dist_index.INDEX}"
    if any(index in part.files for part in todo):  # another save: its shards are others too
        known, todo = {}, list(request.parts)
    if not any(part.files for part in todo):
        return _answer(request, Progress(0), began, 0, 0)
    request.dest.parent.mkdir(parents=True, exist_ok=True)
    sources = [part.source for part in todo if part.files]
    count = request.streams or _streams(sources)
    begun = contextlib.closing(Doors(sources, count))
    with begun as doors, _locked(staging):
        wishes, left_out, total = _wishes(request, todo, staging)
        progress = Progress(total, tell)
        _require_room(request.dest, staging, wishes)
        arrived = _fetch_all(wishes, count, staging, progress, doors)
        proof.whole(request.iter_dir, staging, request.dest)
        record = {**known, **_recorded(todo, arrived)}
        done = _answer(request, progress, began, total, left_out)
        _name(request, staging, record, done)
    return done


def staging_of(dest: Path) -> Path:
    """The folder that files of a gather into ``dest`` arrive in: the same each time.

    It lies beside ``dest``, or in it where ``dest`` is a disk of its own: a rename cannot cross
    disks.
    """
    own_disk = dest.is_dir() and dest.stat().st_dev != dest.parent.stat().st_dev
    return dest / ".gather" if own_disk else dest.with_name(f".{dest.name}.gather")


def probe(request: Request, amount: int = 32 * 1024 * 1024) -> dict[str, Any]:
    """Bring the beginning of each source's largest file, and throw it away.

    Args:
        request: What would be gathered.
        amount: Bytes of each source at most.

    Returns:
        ``bytes`` and ``seconds``, of all sources at once, connections not counted, and
        ``by_node``.

    Raises:
        GatherError: A source does not answer.
    """
    wishes: Wishes = []
    for part in request.parts:
        name = max(part.files, key=lambda name: part.files[name]["size"])
        size = part.files[name]["size"]
        begin = stream.Wish(name, size, ((0, min(size, amount)),))
        wishes.append((part, [begin] if begin.bytes else []))
    total = sum(wish.bytes for _, there in wishes for wish in there)
    progress = Progress(total)
    with tempfile.TemporaryDirectory(prefix="swiftops-probe-") as folder:
        _fetch_all(wishes, 1, Path(folder), progress, Doors())
    return {
        "bytes": total,
        "seconds": round(progress.seconds, 3),
        "by_node": progress.moved,
    }


def _answer(
    request: Request, progress: Progress, began: float, total: int, left_out: int
) -> dict[str, Any]:
    return {
        "dest": str(request.dest),
        "files": sum(len(part.files) for part in request.parts),
        "bytes": total,
        "moved": sum(progress.moved.values()),
        "by_node": progress.moved,
        "transports": progress.transports,
        "seconds": round(time.monotonic() - began, 3),
        "weights_only": request.weights_only,
        "left_out": left_out,
    }


def _without(part: Part, request: Request, known: Mapping[str, Any]) -> Part:
    """The part without files that an earlier gather proved and nothing changed since."""
    if request.check:
        return part
    small = request.weights_only
    left = {
        name: entry
        for name, entry in part.files.items()
        if not proof.holds(request.dest, name, entry, known.get(name), weights_only=small)
    }
    return Part(part.source, left)


# what is to come

Wishes = list[tuple[Part, list[stream.Wish]]]


def _wishes(request: Request, todo: Sequence[Part], staging: Path) -> tuple[Wishes, int, int]:
    """What to ask each source for, the bytes that stay behind, and the bytes to come."""
    if not request.weights_only or not request.iter_dir:
        whole = [(part, _whole(part)) for part in todo]
        return whole, 0, sum(wish.bytes for _, there in whole for wish in there)
    index = f"{request.iter_dir}/{torch_dist_index.INDEX}"
    holder = next((part for part in request.parts if index in part.files), None)
    if holder is None:
        raise GatherError(
            f"{torch_dist_index.INDEX} on a node",
            "none",
            ", ".join(part.source.node for part in request.parts),
            "the node of rank 0 writes it; look there with swiftops ckpt ls",
        )
    whole = staging / _WHOLE
    wish = stream.Wish(index, holder.files[index]["size"])
    with Doors().opened(replace(holder.source, direct=False)) as one:
        for _, arrived in one.fetch([wish], whole, lambda _moved, _kept: None):
            if isinstance(arrived, stream.StreamError):
                raise explained(arrived)
    try:
        small = slim.slim(torch_dist_index.load_index(whole / index))
    except (slim.SlimError, torch_dist_index.TorchDistError) as error:
        if isinstance(error, torch_dist_index.RefusedGlobalError):
            raise
        raise GatherError(
            "an index of a model's tensors", str(error), index, "gather the whole checkpoint"
        ) from error
    target = staging / index
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(small.index)
    ranges = {f"{request.iter_dir}/{name}": there for name, there in small.ranges.items()}
    wishes = [(part, _weights(part, ranges, request.iter_dir)) for part in todo]
    total = sum(wish.bytes for _, there in wishes for wish in there)
    return wishes, small.of - small.bytes, total


def _whole(part: Part) -> list[stream.Wish]:
    return [stream.Wish(name, entry["size"]) for name, entry in part.files.items()]


def _weights(
    part: Part, ranges: Mapping[str, tuple[tuple[int, int], ...]], iter_dir: str
) -> list[stream.Wish]:
    """Ranges of the shards that hold some of the model; all of what is no shard."""
    wishes = []
    for name, entry in part.files.items():
        is_shard = name.startswith(f"{iter_dir}/") and name.endswith(".distcp")
        if name == f"{iter_dir}/{torch_dist_index.INDEX}" or (is_shard and name not in ranges):
            continue
        wishes.append(stream.Wish(name, entry["size"], ranges.get(name) if is_shard else None))
    return wishes


def _require_room(dest: Path, staging: Path, wishes: Wishes) -> None:
    names = [(wish.name, wish.bytes) for _, there in wishes for wish in there]
    here = sum(
        min(size, (staging / name).stat().st_size)
        for name, size in names
        if (staging / name).is_file()
    )
    needed = sum(size for _, size in names) - here
    disk = os.statvfs(staging)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise GatherError(
            f"{needed} bytes free ({needed / 1e9:.2f} GB)",
            f"{free} ({free / 1e9:.2f} GB)",
            f"the disk of {dest.parent} on {os.uname().nodename}",
            "free space there, gather with --weights-only, or to another node (--to)",
        )


# how it comes


@contextlib.contextmanager
def _locked(staging: Path) -> Iterator[None]:
    staging.mkdir(exist_ok=True)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GatherError(
                "one gather at a time into a folder",
                "another one is at work",
                str(staging),
                "wait until it has ended",
            ) from error
        yield
    finally:
        os.close(descriptor)


def _streams(sources: Sequence[stream.Source]) -> int:
    """Streams a source: several where there are processors to spare for them."""
    others = max(1, sum(source.remote is not None for source in sources))
    return max(1, min(4, len(os.sched_getaffinity(0)) // others))


def _fetch_all(
    wishes: Wishes,
    count: int,
    staging: Path,
    progress: Progress,
    doors: Doors,
) -> dict[str, stream.Arrived]:
    """Bring everything, with ``count`` streams a source.

    Raises:
        GatherError: Something of it did not come.
    """
    loads = [(part, load) for part, there in wishes for load in _dealt(there, count) if load]
    arrived: dict[str, stream.Arrived] = {}
    failed: list[GatherError] = []

    def work(item: tuple[Part, list[stream.Wish]]) -> None:
        part, load = item
        node = part.source.node
        try:
            with doors.opened(part.source) as one:
                if progress.came_by(node, one.transport) and one.notice:
                    progress.tell(f"gather: {one.notice}")
                for name, came in one.fetch(
                    load, staging, lambda moved, kept: progress.add(node, moved, kept)
                ):
                    if isinstance(came, stream.StreamError):
                        failed.append(explained(came))
                    else:
                        arrived[name] = came
        except GatherError as error:
            failed.append(error)

    with ThreadPoolExecutor(max(1, len(loads))) as pool:
        running = [pool.submit(work, load) for load in loads]
        while not all(future.done() for future in running):
            _wait_for(running)
            progress.tell(progress.line())
        for future in running:
            future.result()
    if failed:
        raise failed[0]
    return arrived


def _wait_for(running: Sequence[Any]) -> None:
    deadline = time.monotonic() + _LOOK_SECONDS
    for future in running:
        with contextlib.suppress(TimeoutError, Exception):
            future.exception(max(0.0, deadline - time.monotonic()))


def _dealt(wishes: Sequence[stream.Wish], count: int) -> list[list[stream.Wish]]:
    """Wishes in ``count`` heaps of about the same bytes, the large ones first."""
    heaps: list[list[stream.Wish]] = [[] for _ in range(count)]
    for wish in sorted(wishes, key=lambda wish: (-wish.bytes, wish.name)):
        min(heaps, key=lambda heap: sum(other.bytes for other in heap)).append(wish)
    return heaps


# what gets its name


def _recorded(
    todo: Sequence[Part], arrived: Mapping[str, stream.Arrived]
) -> dict[str, dict[str, Any]]:
    """File -> what a later gather needs to know of it."""
    found: dict[str, dict[str, Any]] = {}
    for part in todo:
        for name, entry in part.files.items():
            came = arrived.get(name)
            found[name] = {
                "node": part.source.node,
                "source_size": entry["size"],
                "mtime_ns": came.mtime_ns if came else entry["mtime_ns"],
                "size": came.size if came else None,
            }
    return found


def _name(
    request: Request, staging: Path, record: Mapping[str, Any], done: Mapping[str, Any]
) -> None:
    """Give everything its final name; the index and the tracker last."""
    files = {
        name: {**entry, "weights_only": request.weights_only} for name, entry in record.items()
    }
    _drop_others(staging, files)
    if request.tracker and not (request.dest / torch_dist.TRACKER).is_file():
        (staging / torch_dist.TRACKER).write_text(request.tracker, encoding="ascii")
    for name in (f"{request.iter_dir}/{torch_dist_index.INDEX}", torch_dist.TRACKER):
        _count_as_theirs(staging / name, files.get(name))
    told = {name: done[name] for name in ("bytes", "moved", "by_node", "seconds", "left_out")}
    text = json.dumps({**told, "files": files}, indent=1)
    (staging / proof.RECORD).write_text(text, encoding="utf-8")
    if request.sync:
        os.sync()
    if not request.dest.exists():
        staging.rename(request.dest)
    else:
        names = manifest.walk(staging)[0]
        for name in sorted(names, key=lambda name: (name.rpartition("/")[2] in _LAST, name)):
            target = transfer.confined(request.dest, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(target)
        shutil.rmtree(staging)
    transfer.sync_folders({request.dest.parent, request.dest} if request.sync else set())


def _drop_others(staging: Path, files: Mapping[str, Any]) -> None:
    """Remove what an earlier gather left here and this one did not ask for."""
    shutil.rmtree(staging / _WHOLE, ignore_errors=True)
    for name in manifest.walk(staging)[0]:
        if name not in files:
            (staging / name).unlink()


def _count_as_theirs(path: Path, entry: dict[str, Any] | None) -> None:
    """What was written here counts as its source's, for a later gather."""
    if entry is not None and path.is_file():
        os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
        entry["size"] = path.stat().st_size
