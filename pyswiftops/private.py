"""Folders that only their owner may read, and that go when their owner is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".lock"


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder of mode 0700 in ``parent``, removed at the end.

    If this process is killed, :func:`clear_stale` removes it.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(parent):
        folder = Path(tempfile.mkdtemp(dir=parent))
        held = _open(folder)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def clear_stale(parent: Path) -> None:
    """Remove the private folders in ``parent`` whose owners are gone."""
    if not parent.is_dir():
        return
    with _locked(parent):
        for folder in parent.iterdir():
            if not folder.is_dir():
                continue
            held = _open(folder)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass  # its owner lives
            finally:
                os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = _open(folder)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _open(folder: Path) -> int:
    """A file to lock: network file systems lock none that is open for reading only, nor folders."""
    return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Hold a lock while this process does a thing that no other may do at the same time.

    Args:
        file: The lock's file; its folder is made. It goes at the end.

    Yields:
        Whether it is held; False where another process holds it.

    Raises:
        OSError: the file cannot be made.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = -1
    while held < 0:
        held = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            yield False
            return
        if not _is_still(file, held):  # its holder removed it between the two calls
            os.close(held)
            held = -1
    try:
        yield True
    finally:
        file.unlink(missing_ok=True)
        os.close(held)


def _is_still(file: Path, held: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(held))
    except FileNotFoundError:
        return False
