# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Find every checkpoint in folders of a node, in the layouts of all release lines.

======================  =====================================================================
ms-swift 3.6 to 3.11    ``iter_0000010/`` of each save, one tracker and ``args.json`` beside them
3.12 to 4.6             ``checkpoint-10/`` with its own tracker, ``args.json``, ``iter_0000010/``
3.10 and later          ``checkpoint-10/`` in Hugging Face's format, ``checkpoint-10-merged/``
``swift sft``           ``checkpoint-10/`` with ``trainer_state.json``
conversions             ``iter_0000001/`` or ``release/``, without an optimizer
exports                 any folder with ``config.json`` and weights, or ``adapter_config.json``
======================  =====================================================================

They may lie below ``v0-20250101-000000/``. Links to folders are never followed:
``last-checkpoint`` is one. Folders whose names begin with a dot are left out: copies and removals
under way have such names. What cannot be read is told, never raised. Standard library only,
Python 3.9 and later.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, torch_dist
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import best, contents

SETTLE_SECONDS = 30.0
"""A file that changed within so many seconds may still be written."""

MAX_DEPTH = 4
"""Folders below a given one that are looked into."""

REMOVING_PREFIX = ".removing-"
"""Begins the name of a checkpoint that is being removed."""

_NUMBERED = re.compile(r"checkpoint-(\d+)(-merged)?")
_ITERATION = re.compile(r"iter_(\d+)")
_VERSION = re.compile(r"v\d+-\d{8}-\d{6}")
_HALF = re.compile(r"\.(.+)\.part|(.+)\.(?:part|tmp|incomplete)", re.DOTALL)

Record = dict[str, Any]


class Place(NamedTuple):
    """Where a checkpoint lies.

    Attributes:
        path: The folder that is the checkpoint, and nothing else.
        base: The folder that the names of its files begin at, and that ms-swift is pointed at.
        root: The given folder that it was found in.
    """

    path: Path
    base: Path
    root: Path

    @property
    def name(self) -> str:
        """The same on every node: the path from the version's folder or else the root on.

        It is ``.`` for a root that is itself a checkpoint without a number in its name.
        """
        parts = self.path.parts
        below = len(self.root.parts)
        versions = [number for number in range(below) if _VERSION.fullmatch(parts[number])]
        if versions:
            return "/".join(parts[versions[-1] :])
        if len(parts) > below:
            return "/".join(parts[below:])
        return self.path.name if is_numbered(self.path.name) else "."


def scan(
    folders: Sequence[str | Path], settle: float = SETTLE_SECONDS, now_ns: int | None = None
) -> dict[str, Any]:
    """Describe every checkpoint in ``folders``; read only.

    Args:
        folders: Absolute paths; each a checkpoint, or what holds some.
        settle: Seconds after which a file that has not changed counts as written.
        now_ns: The time, nanoseconds since 1970.

    Returns:
        ``checkpoints`` (see ``describe``), ``trainings`` (what ``best.of_training`` says of each
        folder of checkpoints, with its ``name``, as ``training_of`` has it), ``missing`` (given
        folders that are not there) and ``problems`` (sentences on what could not be read).
    """
    now = time.time_ns() if now_ns is None else now_ns
    found: list[Record] = []
    trainings: dict[Path, Record] = {}
    missing: list[str] = []
    problems: list[str] = []
    for given in folders:
        root = Path(os.path.normpath(given))
        if not root.is_dir():
            missing.append(str(root))
            continue
        for place in places(root, problems):
            found.append(describe(place, settle, now))
            folder = place.path.parent
            if is_numbered(place.path.name) and folder not in trainings:
                told = best.of_training(folder)
                trainings[folder] = {"root": str(root), "name": training_of(place.name), **told}
    return {
        "checkpoints": found,
        "trainings": list(trainings.values()),
        "missing": missing,
        "problems": problems,
    }


def training_of(name: str) -> str:
    """Return the part of a checkpoint's name that all checkpoints of its training share."""
    return name.rpartition("/")[0]


def is_numbered(name: str) -> bool:
    """Tell whether a folder's name is one that a training gives to what it saves."""
    return bool(_NUMBERED.fullmatch(name) or _ITERATION.fullmatch(name))


def places(root: Path, problems: list[str]) -> Iterator[Place]:
    """Yield the checkpoints in a folder; what cannot be listed is added to ``problems``."""
    if _ITERATION.fullmatch(root.name) or _is_release(root):
        yield Place(root, root.parent, root)
        return
    yield from _below(root, root, 0, problems)


def _below(folder: Path, root: Path, depth: int, problems: list[str]) -> Iterator[Place]:
    names = _folders(folder, problems)
    iterations = [name for name in names if _is_iteration(folder / name)]
    if _NUMBERED.fullmatch(folder.name):
        yield Place(folder, folder, root)
        return
    if contents.forms_of_transformers(_file_names(folder)):
        yield Place(folder, folder, root)
    for name in iterations:
        yield Place(folder / name, folder, root)
    if depth < MAX_DEPTH:
        for name in names:
            if name not in iterations:
                yield from _below(folder / name, root, depth + 1, problems)


def _is_iteration(folder: Path) -> bool:
    return bool(_ITERATION.fullmatch(folder.name)) or _is_release(folder)


def _is_release(folder: Path) -> bool:
    """``release`` is a common name: only one that holds weights is meant."""
    if not (torch_dist.is_iteration(folder) and folder.is_dir()):
        return False
    return contents.holds_megatron(_entry_names(folder))


def _entry_names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


def _file_names(folder: Path) -> list[str]:
    return [name for name in _entry_names(folder) if (folder / name).is_file()]


def _folders(folder: Path, problems: list[str]) -> list[str]:
    """Return names of visible folders that are no links, in order; told are those not UTF-8."""
    names: list[str] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        problems.append(f"cannot list {_shown(folder)}: {error.strerror}")
        return []
    for entry in entries:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            continue
        if _is_utf8(entry.name):
            names.append(entry.name)
        else:
            problems.append(
                f"left out the folder {os.fsencode(entry.path)!r}: its name is not UTF-8"
            )
    return names


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: str | Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def describe(place: Place, settle: float, now_ns: int) -> Record:
    """Say what a node holds of one checkpoint.

    Args:
        place: Where it lies.
        settle: See ``scan``.
        now_ns: The node's time, nanoseconds since 1970.

    Returns:
        ``name`` (the same on all nodes), ``path``, ``base`` and ``root`` (see ``Place``),
        ``links`` (names of links to it beside it), ``iter_dir`` (None without), ``iteration``
        (None where unknown), ``iterations`` (of all its shards, and of its name; of a whole
        checkpoint there is one), ``tracker`` (its text, None without), ``files`` (name from
        ``base`` on to ``size`` in bytes, ``mtime_ns``, and ``identity``: inode and time of
        change, the same for a file that two nodes see through a shared disk), ``fingerprint``
        (of names, sizes and times of the files below ``path``),
        ``newest_mtime_ns``, ``age`` (seconds by the node's clock, None without files), ``half``
        (names of half written files), ``writing`` (a file is half written or younger than
        ``settle``), ``problems``, and what ``contents.facts`` returns.
    """
    problems: list[str] = []
    files, half = _files(place, problems)
    iterations = _iterations(place)
    iter_dir = _iter_dir(place, iterations)
    newest = max((entry["mtime_ns"] for entry in files.values()), default=None)
    age = None if newest is None else (now_ns - newest) / 1e9
    if age is not None and age < -settle:
        problems.append(f"its newest file is dated {-age:.0f} s after this node's clock")
    tracker = _tracker(place, problems)
    facts = contents.facts(place.base, iter_dir, files, problems)
    return {
        "name": place.name,
        "path": str(place.path),
        "base": str(place.base),
        "root": str(place.root),
        "links": _links(place.path),
        "iter_dir": None if iter_dir is None else str(iter_dir),
        "iteration": _iteration(place, iter_dir, tracker, problems),
        "iterations": _numbers(place, iterations),
        "tracker": tracker,
        "files": files,
        "fingerprint": _fingerprint(place, files),
        "newest_mtime_ns": newest,
        "age": age,
        "half": half,
        "writing": bool(half) or (age is not None and abs(age) < settle),
        **facts,
        "merged": place.path.name.endswith("-merged") or facts["merged"],
        "problems": problems,
    }


def _files(place: Place, problems: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the files of a checkpoint, and the names of those that are half written."""
    files: dict[str, Any] = {}
    half: list[str] = []
    for path in _file_paths(place, problems):
        name = path.relative_to(place.base).as_posix()
        if not _is_utf8(name):
            problems.append(f"left out the file {os.fsencode(path)!r}: its name is not UTF-8")
            continue
        match = _HALF.fullmatch(path.name)
        if match:
            half.append(Path(name).with_name(match.group(1) or match.group(2)).as_posix())
            continue
        try:
            found = path.stat()
        except OSError as error:
            problems.append(f"cannot look at {name}: {error.strerror}")
            continue
        if stat.S_ISREG(found.st_mode):
            files[name] = {
                "size": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "identity": f"{found.st_ino}:{found.st_ctime_ns}",
            }
    return dict(sorted(files.items())), sorted(half)


def _fingerprint(place: Place, files: dict[str, Any]) -> str:
    prefix = "" if place.base == place.path else f"{place.path.name}/"
    own = [
        f"{name}\0{entry['size']}\0{entry['mtime_ns']}"
        for name, entry in files.items()
        if name.startswith(prefix)
    ]
    text = "\n".join(own).encode()
    return hashlib.blake2b(text, digest_size=manifest.DIGEST_SIZE).hexdigest()


def _file_paths(place: Place, problems: list[str]) -> Iterator[Path]:
    def tell(error: OSError) -> None:
        problems.append(f"cannot list {_shown(error.filename)}: {error.strerror}")

    if place.base != place.path:
        beside = (place.base / name for name in (torch_dist.TRACKER, torch_dist.ARGS))
        yield from (path for path in beside if path.is_file())
    numbered = bool(_NUMBERED.fullmatch(place.path.name))
    for folder, folders, names in os.walk(place.path, onerror=tell):
        here = Path(folder)
        if not numbered and here == place.path:  # other checkpoints may lie in an output folder
            folders[:] = [name for name in folders if not _is_other(here / name)]
        folders.sort()
        yield from (here / name for name in names)


def _is_other(folder: Path) -> bool:
    patterns = (_NUMBERED, _VERSION)
    named = any(pattern.fullmatch(folder.name) for pattern in patterns)
    return named or _is_iteration(folder) or folder.name.startswith(".")


def _iterations(place: Place) -> list[Path]:
    """Return the folders of shards in a checkpoint, in order of name."""
    if place.base != place.path:
        return [place.path]
    if not _NUMBERED.fullmatch(place.path.name):
        return []
    held = [place.path / name for name in sorted(_entry_names(place.path))]
    folders = [path for path in held if not path.is_symlink() and path.is_dir()]
    return [path for path in folders if _is_iteration(path)]


def _iter_dir(place: Place, found: Sequence[Path]) -> Path | None:
    """Return the folder of the shards that the checkpoint's name means, or else the last one."""
    wanted = _number(_NUMBERED, place.path.name)
    fitting = [path for path in found if _number(_ITERATION, path.name) == wanted]
    return next(iter(fitting or found[-1:]), None)


def _numbers(place: Place, found: Sequence[Path]) -> list[int]:
    numbers = {_number(_ITERATION, path.name) for path in found}
    numbers.add(_number(_NUMBERED, place.path.name))
    return sorted(number for number in numbers if number is not None)


def _number(pattern: re.Pattern[str], name: str) -> int | None:
    match = pattern.fullmatch(name)
    return int(match.group(1)) if match else None


def _tracker(place: Place, problems: list[str]) -> str | None:
    path = place.base / torch_dist.TRACKER
    try:
        return path.read_bytes()[:80].decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"cannot read {path.name}: {error.strerror}")
        return None


def _iteration(
    place: Place, iter_dir: Path | None, tracker: str | None, problems: list[str]
) -> int | None:
    """Return the iteration, by the names; where tracker and names differ is told."""
    shards = None if iter_dir is None else _number(_ITERATION, iter_dir.name)
    named = _number(_NUMBERED, place.path.name)
    if shards is None or named is None:
        return named if shards is None else shards
    if tracker is not None and tracker != str(shards):
        problems.append(f"{torch_dist.TRACKER} says {tracker!r}, the folder iter_{shards:07d}")
    return shards


def _links(path: Path) -> list[str]:
    """Return names of links beside a folder that lead to it."""
    found = []
    for name in _entry_names(path.parent):
        link = path.parent / name
        if link.is_symlink() and _is_utf8(name) and link.resolve() == path.resolve():
            found.append(name)
    return sorted(found)
