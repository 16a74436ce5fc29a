# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Keep a job from reading other nodes' roots on a machine that holds several nodes.

A private mount namespace with an empty, read-only file system over each hidden path is
the real thing; where the kernel or the container forbids it, the supervisor looks at
what the tree has open instead and fails the job that reads a hidden path. Both guard
against mistakes (a wrong path in a configuration), not against a job that attacks.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from .shared_memory import mapped_paths

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 0x1
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000


class Method(str, Enum):  # noqa: UP042 (StrEnum needs Python 3.11, nodes may have 3.9)
    """How paths are hidden from a job."""

    MOUNT_NAMESPACE = "mount_namespace"
    USER_NAMESPACE = "user_namespace"
    OPENED_PATHS = "opened_paths"
    NONE = "none"


class Opened(NamedTuple):
    """A hidden path found open."""

    pid: int
    path: str


def methods(hide: Iterable[str], *, only_watch: bool = False) -> list[Method]:
    """Return the ways to try, best first; the last one always works.

    Args:
        hide: The paths to hide; none means that nothing is done.
        only_watch: Leave out the namespaces (for tests of the weaker way).
    """
    if not list(hide):
        return [Method.NONE]
    if only_watch:
        return [Method.OPENED_PATHS]
    root = [Method.MOUNT_NAMESPACE] if os.geteuid() == 0 else []
    return [*root, Method.USER_NAMESPACE, Method.OPENED_PATHS]


def enter(method: Method, hide: Iterable[str]) -> None:
    """Hide the paths from this process and all that it will start.

    Call it in a fresh child before exec: it cannot be undone. Paths that do not exist
    cannot be covered; `uncovered` names them.

    Raises:
        OSError: The kernel or the container forbids it.
    """
    if method not in (Method.MOUNT_NAMESPACE, Method.USER_NAMESPACE):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if method is Method.MOUNT_NAMESPACE:
        _checked(libc.unshare(_CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    else:
        user, group = os.geteuid(), os.getegid()
        _checked(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare(CLONE_NEWUSER)")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    _mount(libc, None, "/", kind=None, flags=_MS_REC | _MS_PRIVATE)
    for path in hide:
        _cover(libc, path)


def uncovered(method: Method, hide: Iterable[str]) -> list[str]:
    """Return the paths that the supervisor has to watch because no mount covers them."""
    if method is Method.NONE:
        return []
    real = [os.path.realpath(path) for path in hide]
    if method is Method.OPENED_PATHS:
        return real
    return [path for path in real if not Path(path).exists()]


def first_opened(pids: Iterable[int], watched: list[str]) -> Opened | None:
    """Return a watched path that one of the processes has open, mapped or stands in."""
    for pid in pids:
        paths = mapped_paths(pid)
        try:
            paths.add(os.readlink(f"/proc/{pid}/cwd"))  # noqa: PTH115 (a string is wanted)
        except OSError:
            continue
        for path in sorted(paths):
            if any(path == root or path.startswith(root + "/") for root in watched):
                return Opened(pid, path)
    return None


def _cover(libc: ctypes.CDLL, path: str) -> None:
    real = os.path.realpath(path)
    try:
        folder = stat.S_ISDIR(os.stat(real).st_mode)  # noqa: PTH116 (a string from realpath)
    except FileNotFoundError:
        return
    if folder:
        flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        _mount(libc, "tmpfs", real, kind="tmpfs", flags=flags, options="size=4k,mode=0555")
    else:
        _mount(libc, os.devnull, real, kind=None, flags=_MS_BIND)


def _mount(
    libc: ctypes.CDLL,
    source: str | None,
    target: str,
    *,
    kind: str | None,
    flags: int,
    options: str | None = None,
) -> None:
    result = libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if options is None else options.encode(),
    )
    _checked(result, f"mount {target}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
