"""Folders that only their owner may read, and that go when their owner is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder of mode 0700 in ``parent``, removed at the end.

    If this process is killed, :func:`clear_stale` removes it.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(parent):
        folder = Path(tempfile.mkdtemp(dir=parent))
        held = os.open(folder, os.O_RDONLY)
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
            held = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass  # its owner lives
            finally:
                os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
