# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a folder holds, as names, sizes and hashes: the proof that a copy is held against.

Standard library only, Python 3.9 and later: nodes run this with their own Python.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHUNK = 4 * 1024 * 1024
"""Bytes read at once; large enough that hashing leaves the interpreter lock alone."""

DIGEST_SIZE = 16
"""Bytes of a blake2b digest: 128 bits, twice as many hexadecimal digits."""

MAX_WORKERS = 8
STAGING_PREFIX = ".pull-"

_DIGEST = re.compile(r"[0-9a-f]{32}")
_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\]|.", re.DOTALL)

FileEntry = dict[str, Any]
"""``size`` (bytes), ``mtime_ns`` (nanoseconds since 1970) and ``blake2b`` (hex, or None)."""


class ManifestError(Exception):
    """A folder cannot be listed, or a manifest cannot be trusted."""


def part_name(name: str) -> str:
    """Return the file name (no folder) under which ``name`` is kept while it is half copied."""
    return f".{name}.part"


def is_temporary(name: str) -> bool:
    """Tell whether a file or folder name is one that this collection writes in passing."""
    return name.startswith(STAGING_PREFIX) or (name.startswith(".") and name.endswith(".part"))


def safe_relative(name: object) -> str:
    """Return ``name`` when it stays inside the folder it is relative to.

    Args:
        name: A relative path with forward slashes, as another node sent it.

    Raises:
        ManifestError: It is absolute, climbs with ``..``, has an empty part, a NUL byte,
            or is the name of a temporary file of this collection.
    """
    if not isinstance(name, str) or not name:
        raise ManifestError(f"expected a relative file name in the manifest, found {name!r}")
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ManifestError(
            f"refused the file name {name!r}: expected a relative path that stays inside the "
            "folder (no leading slash, no '..', no empty part). Make the manifest again on the "
            "source node with pyswiftops.fleet.manifest"
        )
    if any(is_temporary(part) for part in parts):
        raise ManifestError(
            f"refused the file name {name!r}: names such as '.<name>.part' and "
            f"'{STAGING_PREFIX}<id>' are kept for copies under way. Rename the file on the source"
        )
    return name


def validated(files: Mapping[str, Any]) -> dict[str, FileEntry]:
    """Return a manifest's ``files`` with every name, size and hash checked.

    Raises:
        ManifestError: Anything in it is not what ``build`` returns.
    """
    checked: dict[str, FileEntry] = {}
    for name, entry in files.items():
        safe_relative(name)
        found = entry if isinstance(entry, Mapping) else {}
        size, mtime_ns, digest = found.get("size"), found.get("mtime_ns", 0), found.get("blake2b")
        numbers = all(isinstance(n, int) and not isinstance(n, bool) for n in (size, mtime_ns))
        if not numbers or size is None or size < 0:
            raise ManifestError(f"expected a size in bytes for {name!r}, found {entry!r}")
        if digest and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise ManifestError(
                f"expected a blake2b hash of {2 * DIGEST_SIZE} hexadecimal digits for {name!r}, "
                f"found {digest!r}"
            )
        checked[name] = {"size": size, "mtime_ns": mtime_ns, "blake2b": digest or None}
    for name in checked:
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in checked:
                raise ManifestError(f"refused the manifest: {above!r} is a file and a folder in it")
    return checked


def _matcher(pattern: str) -> tuple[re.Pattern[str], bool]:
    """Translate a glob; the flag says whether it is matched against the name alone."""
    out = []
    for piece in _GLOB.findall(pattern.lstrip("/")):
        if piece == "**/":
            out.append("(?:.*/)?")
        elif piece == "**":
            out.append(".*")
        elif piece == "*":
            out.append("[^/]*")
        elif piece == "?":
            out.append("[^/]")
        elif len(piece) > 1:
            body = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            out.append("[^" + body[1:] + "]" if body.startswith("!") else "[" + body + "]")
        else:
            out.append(re.escape(piece))
    return re.compile("".join(out), re.DOTALL), "/" not in pattern


def selects(include: Sequence[str], name: str) -> bool:
    """Tell whether a relative path is selected by a list of globs; an empty list selects all.

    A glob without a slash is matched against the file's own name in any folder; one with a
    slash against the whole relative path. ``*`` stays within one folder, ``**`` crosses them,
    and both match names that start with a dot.
    """
    if not include:
        return True
    base = name.rpartition("/")[2]
    pairs = [_matcher(pattern) for pattern in include]
    return any(regex.fullmatch(base if by_name else name) for regex, by_name in pairs)


def walk(root: Path, include: Sequence[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """List the files below ``root``: relative paths, and what was left out and why.

    Links to files count as files. Links to folders are left out, since a checkpoint folder
    holds links to its own siblings (``last-checkpoint``).

    Raises:
        ManifestError: A folder cannot be read, or a name is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise ManifestError(f"cannot list {error.filename}: {error.strerror}") from error

    names: list[str] = []
    left_out: list[dict[str, str]] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        base = Path(folder).relative_to(root)
        for name in sorted(folders):
            if is_temporary(name):
                folders.remove(name)
            elif (Path(folder) / name).is_symlink():
                left_out.append({"path": (base / name).as_posix(), "why": "link to a folder"})
        for name in files:
            relative = (base / name).as_posix()
            try:
                relative.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ManifestError(
                    f"the file name {os.fsencode(relative)!r} in {root} is not UTF-8. "
                    "Rename the file"
                ) from error
            if is_temporary(name) or not selects(include, relative):
                continue
            reason = _not_a_file(Path(folder) / name)
            if reason:
                left_out.append({"path": relative, "why": reason})
            else:
                names.append(relative)
    return sorted(names), left_out


def _not_a_file(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "broken link"
    return None if stat.S_ISREG(mode) else "not a regular file"


def hash_fd(descriptor: int, size: int | None = None) -> tuple[str, int]:
    """Hash an open file from its current position.

    Args:
        descriptor: An open file descriptor.
        size: Bytes to read at most; None reads to the end.

    Returns:
        The hexadecimal digest and the bytes read.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    total = feed(digest, descriptor, size)
    return digest.hexdigest(), total


def feed(digest: Any, descriptor: int, size: int | None = None) -> int:
    """Feed an open file into ``digest`` and return the bytes read (``size`` at most)."""
    buffer = memoryview(bytearray(CHUNK))
    total = 0
    while size is None or total < size:
        want = CHUNK if size is None else min(CHUNK, size - total)
        count = os.readv(descriptor, [buffer[:want]])
        if not count:
            break
        digest.update(buffer[:count])
        total += count
    return total


def describe(path: Path, *, hashed: bool = True) -> FileEntry:
    """Return one file's manifest entry.

    Raises:
        ManifestError: It changed while it was read (a job is still writing it), or
            cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error
    try:
        before = os.fstat(descriptor)
        digest, count = hash_fd(descriptor) if hashed else (None, before.st_size)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or (
        count != after.st_size
    ):
        raise ManifestError(
            f"{path} changed while it was read: {before.st_size} bytes before, {after.st_size} "
            "after. Wait until the job that writes it has ended, then run the stage again"
        )
    return {"size": after.st_size, "mtime_ns": after.st_mtime_ns, "blake2b": digest}


def workers_for(count: int) -> int:
    """Return how many threads serve ``count`` files on this machine."""
    return max(1, min(MAX_WORKERS, count, len(os.sched_getaffinity(0))))


def build(path: str, include: Sequence[str] = (), *, hashed: bool = True) -> dict[str, Any]:
    """Return the manifest of a folder, or of one file.

    Args:
        path: The folder, or the file.
        include: Globs (see ``selects``); empty takes every file, hidden ones included.
        hashed: Whether to read and hash the files, or only list them.

    Returns:
        ``folder`` (that names are relative to), ``files`` (relative path to entry), ``bytes``
        (their sum), ``missing`` (nothing is there) and ``left_out`` (what is there but is no
        file).

    Raises:
        ManifestError: Something cannot be read.
    """
    root, names, left_out = Path(path), [], []
    if root.is_file():
        root, names = root.parent, [root.name]
    elif root.exists():
        names, left_out = walk(root, include)
    missing = not names and not root.exists()
    with ThreadPoolExecutor(workers_for(len(names))) as pool:
        entries = list(pool.map(lambda name: describe(root / name, hashed=hashed), names))
    files = {name: entries[index] for index, name in enumerate(names)}
    total = sum(entry["size"] for entry in entries)
    return {
        "folder": str(root),
        "files": files,
        "bytes": total,
        "missing": missing,
        "left_out": left_out,
    }
