"""Download models and datasets from their hubs, and prove that they are whole.

Runs on the first node as ``python -m pyswiftops.data.fetch``, in the Python that ms-swift is
installed in. Everything goes into a staging folder; the stage's playbook gives the folder its
name afterwards. A run that was cut off is gone on with.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyswiftops.data import hubs
from pyswiftops.data.hubs import HubFile, Listing, Wanted
from pyswiftops.errors import Finding, SwiftOpsError
from pyswiftops.paths import FetchedFolder

ROOM = "SWIFTOPS_FETCH_ROOM"
"""Environment variable: lines of bytes free, a node that is to have it as well, the folder."""

_CHUNK = 4 * 1024 * 1024
_DIGEST_SIZE = 16  # of the manifests that nodes are held against
_TOKENS = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}
_PACKAGES = {"huggingface": "huggingface_hub", "modelscope": "modelscope_hub"}
_GB = 1e9


class FetchError(SwiftOpsError):
    """A model or dataset cannot be fetched; what has arrived is kept."""


def fetch(wanted: Wanted, place: FetchedFolder, room: Mapping[str, int]) -> int:
    """Bring ``wanted`` into the staging folder of ``place``, proven, and write its record.

    Args:
        wanted: The model or dataset.
        place: Where it is to lie.
        room: node -> bytes free there, of the other nodes that lack it.

    Returns:
        Its size in bytes.

    Raises:
        FetchError: the hub does not answer as it should, space is short, or what came is wrong.
    """
    where = f"{wanted.id} ({wanted.revision}) of {wanted.hub}"
    listing: Listing = _asked(wanted, where, lambda: hubs.list_files(wanted))
    if not listing.files:
        raise _error("files", "none", where, "look at the id and the revision in the run file")
    outside = [name for name in listing.files if name.startswith("/") or ".." in name.split("/")]
    if outside:
        raise _error("names of files inside the folder", outside[0], where, "do not use it")
    _say(f"{where}: {len(listing.files)} files, {listing.bytes / _GB:.3f} GB {listing.commit}")
    staging = Path(place.staging)
    Path(place.folder).parent.mkdir(parents=True, exist_ok=True)
    with _locked(Path(place.lock)):
        _seed(Path(place.folder), staging)
        entries = _right(staging, listing)
        missing = sorted(set(listing.files) - set(entries))
        _check_room(listing, staging, room, where)
        if missing:
            _say(f"{where}: {len(missing)} files to come")
            _asked(wanted, where, lambda: hubs.download(wanted, listing.commit, staging, missing))
            entries |= _right(staging, listing, missing)
        wrong = sorted(set(listing.files) - set(entries))
        if wrong:
            for name in wrong:
                (staging / name).unlink(missing_ok=True)
            remedy = "run again: these files are fetched anew, all others are kept"
            expected = "every file as the hub lists it"
            raise _error(expected, f"{', '.join(wrong[:5])} missing or different", where, remedy)
        _drop_others(staging, listing)
        record = {**wanted.__dict__, "commit": listing.commit, "files": entries}
        _write(Path(place.record), json.dumps(record, indent=1) + "\n")
    _say(f"{where}: all {len(entries)} files are as the hub lists them")
    return listing.bytes


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _error(expected: str, found: str, where: str, remedy: str) -> FetchError:
    return FetchError(str(Finding(expected, found, where, remedy)))


def _asked(wanted: Wanted, where: str, call: Any) -> Any:
    """What a hub's client answers; its many kinds of errors become one."""
    try:
        return call()
    except ImportError as problem:
        package = _PACKAGES[wanted.hub]
        expected = f"{package} in {sys.executable}"
        remedy = f"{sys.executable} -m pip install {package}"
        raise _error(expected, str(problem), where, remedy) from problem
    except Exception as problem:  # clients raise errors of their own, of requests and of httpx
        found = f"{type(problem).__name__}: {problem}".strip()
        token = _TOKENS[wanted.hub]
        known = "is set" if os.environ.get(token) else "is not set"
        remedy = (
            f"look at the id and the revision; a private or gated one needs {token} (it {known}); "
            "without a way to the hub name a mirror (hub.mirror of the fleet file). What has "
            "arrived is kept: run again to go on"
        )
        raise _error(f"an answer of {wanted.hub}", found, where, remedy) from problem


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for another run that fetches the same."""
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another run holds {path}: waiting until it has fetched")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _seed(folder: Path, staging: Path) -> None:
    """Begin a new fetch with the files that an older one left, without copying them."""
    if staging.exists():
        return
    staging.mkdir()
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            target = staging / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)


def _check_room(listing: Listing, staging: Path, room: Mapping[str, int], where: str) -> None:
    """Every node must be able to take it before the first byte is asked for."""
    here = sum(
        path.stat().st_size
        for path in staging.rglob("*")
        if path.is_file() and path.relative_to(staging).as_posix() in listing.files
    )
    free = shutil.disk_usage(staging).free
    short = (
        {f"this node ({staging})": (listing.bytes - here, free)}
        if (listing.bytes - here > free)
        else {}
    )
    short |= {
        node: (listing.bytes, bytes_free)
        for node, bytes_free in room.items()
        if listing.bytes > bytes_free
    }
    if short:
        found = "; ".join(
            f"{node}: {needed / _GB:.3f} GB to come, {have / _GB:.3f} GB free"
            for node, (needed, have) in short.items()
        )
        remedy = "free space there, or give the node a larger root in the fleet file"
        raise _error(f"room for {listing.bytes / _GB:.3f} GB on every node", found, where, remedy)


def _drop_others(staging: Path, listing: Listing) -> None:
    """Remove what the hub does not list: files of the client, or of an older revision."""
    for path in sorted(staging.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(staging).as_posix() not in listing.files:
            path.unlink()


def _right(
    staging: Path, listing: Listing, names: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Files that are there as the hub lists them, described for the other nodes."""

    def look(name: str) -> dict[str, Any] | None:
        path = staging / name
        return _describe(path, listing.files[name]) if path.is_file() else None

    chosen = sorted(listing.files if names is None else names)
    with ThreadPoolExecutor(max(1, min(4, len(os.sched_getaffinity(0))))) as pool:
        found = zip(chosen, pool.map(look, chosen), strict=True)
        return {name: entry for name, entry in found if entry is not None}


def _describe(path: Path, expected: HubFile) -> dict[str, Any] | None:
    """Size, time and hash of a file that is what the hub lists, or None."""
    found = path.stat()
    if found.st_size != expected.size:
        return None
    ours = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    sha256 = hashlib.sha256()
    git = hashlib.sha1(f"blob {found.st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            ours.update(chunk)
            if expected.sha256:
                sha256.update(chunk)
            if expected.git_sha1:
                git.update(chunk)
    if expected.sha256 and sha256.hexdigest() != expected.sha256:
        return None
    if expected.git_sha1 and git.hexdigest() != expected.git_sha1:
        return None
    return {
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "blake2b": ours.hexdigest(),
    }


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what ``--item`` names, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m pyswiftops.data.fetch", allow_abbrev=False)
    parser.add_argument(
        "--item",
        action="append",
        required=True,
        nargs=5,
        metavar=("HUB", "KIND", "ID", "REVISION", "FOLDER"),
    )
    given = parser.parse_args(arguments)
    rooms: dict[str, dict[str, int]] = {}
    for line in os.environ.get(ROOM, "").splitlines():
        free, node, folder = line.split(" ", 2)
        rooms.setdefault(folder, {})[node] = int(free)
    taken: Counter[str] = Counter()
    try:
        for *words, folder in given.item:
            room = {name: size - taken[name] for name, size in rooms.get(folder, {}).items()}
            size = fetch(Wanted(*words), FetchedFolder(folder), room)
            taken.update(dict.fromkeys(room, size))
    except (FetchError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
