# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Copy files under a manifest: nothing gets its final name before its bytes are proven.

What each ``verify`` proves, and what it costs:

``true``
    The very bytes handed to the kernel for the copy were hashed on their way and equal the
    manifest. Nothing is read twice. A fault below the page cache (the disk wrote something
    else) is not seen.
``reread``
    As above, then the copy is flushed, dropped from the page cache and read back.
``false``
    Only the size. The kernel copies without showing the bytes (``copy_file_range``).

Where the filesystem shares extents (XFS, btrfs) a copy costs no bytes, and ``true`` hashes the
shared extents through the copy. Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import file_copy, manifest

VERIFY = ("true", "false", "reread")

_SHOWN = 5


class PullError(Exception):
    """Files cannot be copied, or what was copied is not what the manifest says."""


@dataclass(frozen=True)
class Plan:
    """What a pull has to do.

    Attributes:
        copy: Relative paths to copy, sorted.
        skipped: Relative paths that dest already holds as the manifest says.
        bytes: Sum of the sizes to copy.
    """

    copy: tuple[str, ...]
    skipped: tuple[str, ...]
    bytes: int


def confined(dest: Path, name: str) -> Path:
    """Return where ``name`` lands below ``dest``.

    Raises:
        PullError: A link on the way leads out of ``dest``, or a folder and a file collide.
    """
    root = dest.resolve()
    current = dest
    parts = manifest.safe_relative(name).split("/")
    for depth, part in enumerate(parts, start=1):
        current = current / part
        if current.is_symlink() and not current.resolve().is_relative_to(root):
            raise PullError(
                f"refused to write {name!r}: {current} is a link that leads out of {dest}, to "
                f"{current.resolve()}. Remove that link on the destination node"
            )
        if current.exists() and current.is_dir() == (depth == len(parts)):
            wanted, found = ("file", "folder") if current.is_dir() else ("folder", "file")
            raise PullError(
                f"cannot write {name!r}: expected a {wanted} at {current}, found a {found}. "
                "Move it away on the destination node"
            )
    return current


def up_to_date(target: Path, entry: Mapping[str, Any], verify: str) -> bool:
    """Tell whether ``target`` already is what the manifest says."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return False
    if found.st_size != entry["size"]:
        return False
    if verify == "false":
        return bool(found.st_mtime_ns == entry["mtime_ns"])
    return bool(manifest.describe(target)["blake2b"] == entry["blake2b"])


def plan(dest: Path, files: Mapping[str, Mapping[str, Any]], verify: str) -> Plan:
    """Compare ``dest`` with a validated manifest; reads files of equal size, writes nothing.

    Raises:
        PullError: A name leads out of ``dest``, or there is no hash to verify.
    """
    if verify != "false":
        bare = sorted(name for name, entry in files.items() if not entry["blake2b"])
        if bare:
            raise PullError(
                f"expected a hash for every file, found none for {bare[0]!r} and {len(bare) - 1} "
                "others. Make the manifest with hash: true, or pull with verify: false"
            )
    if dest.exists() and not dest.is_dir():
        raise PullError(f"expected a folder at {dest}, found a file. Name another dest")
    names = sorted(files)
    targets = [confined(dest, name) for name in names]
    with ThreadPoolExecutor(manifest.workers_for(len(names))) as pool:
        done = list(
            pool.map(lambda i: up_to_date(targets[i], files[names[i]], verify), range(len(names)))
        )
    copy = tuple(name for index, name in enumerate(names) if not done[index])
    skipped = tuple(name for index, name in enumerate(names) if done[index])
    return Plan(copy, skipped, sum(files[name]["size"] for name in copy))


def require_space(dest: Path, needed: int) -> None:
    """Refuse a copy of ``needed`` bytes that the disk under ``dest`` cannot take.

    Raises:
        PullError: Too little space is free.
    """
    place = dest
    while not place.exists():
        place = place.parent
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise PullError(
            f"not enough disk space for {dest}: expected {needed} bytes free "
            f"({needed / 2**30:.2f} GiB), found {free} ({free / 2**30:.2f} GiB) on the disk of "
            f"{place} on {os.uname().nodename}. Free {needed - free} bytes there, or give the "
            "node a larger root in the fleet file"
        )


def half_copied(dest: Path, names: tuple[str, ...]) -> int:
    """Return the bytes that earlier pulls left below ``dest`` in temporary files of ``names``."""
    total = 0
    for name in names:
        target = dest / name
        part = target.with_name(manifest.part_name(target.name))
        if part.is_file():
            total += part.stat().st_size
    return total


@contextmanager
def _source(path: Path, size: int) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PullError(
            f"cannot read the source {path}: {error.strerror}. Make the manifest again"
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise PullError(
                f"refused the source {path}: expected a file of {size} bytes (its manifest), "
                f"found {found.st_size}. It changed since; make the manifest again"
            )
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _part(path: Path) -> Iterator[int]:
    """Open the temporary file of one copy, for this process alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = path.lstat().st_ino == os.fstat(descriptor).st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PullError(f"expected a file at {path}, found something else. Move it away")
        if not mine:
            raise PullError(
                f"another pull is writing {path}. Wait until it has ended, then run again"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def mismatch(place: object, expected: str, found: str) -> PullError:
    """Return the error for bytes that are not the manifest's."""
    return PullError(
        f"refused {place}: expected blake2b {expected} (the source's manifest), found {found}. "
        "The file changed or is damaged on its way or on the source node; nothing was left under "
        "its final name. Make the manifest again and pull again; if the source's hash is what it "
        "was, check that node's disk"
    )


def settle(
    descriptor: int, part: Path, target: Path, entry: Mapping[str, Any], verify: str
) -> None:
    """Flush a verified temporary file, and only then give it its final name.

    Raises:
        PullError: ``verify`` is ``reread`` and the disk gives other bytes back.
    """
    os.fsync(descriptor)
    if verify == "reread":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(descriptor, 0, os.SEEK_SET)
        found = manifest.hash_fd(descriptor)[0]
        if found != entry["blake2b"]:
            part.unlink()
            raise mismatch(f"{target} as read back from this node's disk", entry["blake2b"], found)
    os.utime(descriptor, ns=(entry["mtime_ns"], entry["mtime_ns"]))
    part.replace(target)


def copy_file(source: Path, target: Path, entry: Mapping[str, Any], verify: str) -> None:
    """Copy one file on this machine by way of ``.<name>.part``, which a rerun continues.

    Raises:
        PullError: The source is not what the manifest says; the temporary file is gone then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(manifest.part_name(target.name))
    expected = entry["blake2b"] if verify != "false" else None
    with _source(source, entry["size"]) as reader, _part(part) as writer:
        digest = file_copy.fill(reader, writer, entry["size"], expected)
        size = os.fstat(writer).st_size
        if size != entry["size"]:
            raise PullError(f"{source} ended early: expected {entry['size']} bytes, found {size}")
        if expected and digest != expected:
            part.unlink()
            raise mismatch(source, expected, str(digest))
        settle(writer, part, target, entry, verify)


def sync_folders(folders: set[Path]) -> None:
    """Make the new names in ``folders`` survive a power cut."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def each(names: tuple[str, ...], work: Callable[[str], None]) -> None:
    """Run ``work`` for every name in parallel; finish all, then raise what failed.

    Raises:
        PullError: Some failed; the message names the first few.
    """

    def attempt(name: str) -> str | None:
        try:
            work(name)
        except (PullError, manifest.ManifestError) as error:
            return str(error)
        except OSError as error:
            return f"cannot copy {name!r}: {error}"
        return None

    with ThreadPoolExecutor(manifest.workers_for(len(names))) as pool:
        failed = [sentence for sentence in pool.map(attempt, names) if sentence]
    if failed:
        more = f" (and {len(failed) - _SHOWN} more)" if len(failed) > _SHOWN else ""
        kept = f" {len(names) - len(failed)} of {len(names)} files were copied and are kept."
        raise PullError("; ".join(failed[:_SHOWN]) + more + "." + kept)


def pull_local(
    source: Path, dest: Path, files: Mapping[str, Mapping[str, Any]], todo: Plan, verify: str
) -> None:
    """Copy the planned files from a folder of this machine.

    Raises:
        PullError: The source is missing or not as its manifest says, or space is short.
    """
    if not source.is_dir():
        raise PullError(f"expected the source folder {source} on {os.uname().nodename}, found none")
    require_space(dest, todo.bytes - half_copied(dest, todo.copy))
    dest.mkdir(parents=True, exist_ok=True)
    each(todo.copy, lambda name: copy_file(source / name, dest / name, files[name], verify))
    sync_folders({(dest / name).parent for name in todo.copy})
