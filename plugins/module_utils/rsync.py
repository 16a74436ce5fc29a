# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Pull files from another node with rsync over ssh, under a manifest.

rsync writes into a staging folder beside dest; a file moves to its final name only after its
hash equals the manifest. Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, transfer

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|\[?[0-9A-Fa-f:]+(%[A-Za-z0-9._-]+)?\]?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\$?")
_MAX_PORT = 65535
_TAIL = 10
_SSH_FAILED = 255


@dataclass(frozen=True)
class Remote:
    """A folder on another node.

    Attributes:
        path: Absolute folder on that node.
        host: Name or address, as ssh takes it.
        port: ssh port; None leaves it to ssh's configuration.
        user: Login; None leaves it to ssh's configuration.
        ssh_options: Further arguments of ssh, such as ``-i`` and a key file.
    """

    path: str
    host: str
    port: int | None = None
    user: str | None = None
    ssh_options: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise transfer.PullError(f"expected a host name or address, found {self.host!r}")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise transfer.PullError(f"expected a user name, found {self.user!r}")
        if self.port is not None and not 0 < self.port <= _MAX_PORT:
            raise transfer.PullError(f"expected a port from 1 to {_MAX_PORT}, found {self.port}")
        if not self.path.startswith("/") or "\0" in self.path:
            raise transfer.PullError(f"expected an absolute source path, found {self.path!r}")

    @property
    def address(self) -> str:
        """``user@host`` as rsync and ssh take it."""
        host = f"[{self.host.strip('[]')}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.user else host


def rsh(remote: Remote) -> str:
    """Return rsync's ``-e`` value.

    rsync splits it at spaces and knows quotes but no backslash; a quote inside is doubled.
    BatchMode keeps ssh from waiting for a password; host key checking stays as ssh is set.
    """
    argv = ["ssh", "-o", "BatchMode=yes"]
    if remote.port is not None:
        argv += ["-p", str(remote.port)]
    argv += remote.ssh_options
    return " ".join('"' + item.replace('"', '""') + '"' for item in argv)


def command(remote: Remote, staging: Path, bwlimit: str | None = None) -> list[str]:
    """Return rsync's argv; the names come on its standard input (see ``file_list``)."""
    argv = ["rsync", "-s", "--times", "--copy-links", "--partial", "--inplace"]
    argv += ["--from0", "--files-from=-"]
    if bwlimit:
        argv.append(f"--bwlimit={bwlimit}")
    return [*argv, "-e", rsh(remote), "--", f"{remote.address}:/", f"{staging}/"]


def push_command(source: Path, remote: Remote, *, checksum: bool = False) -> list[str]:
    """Return rsync's argv for the other way: from a folder here into ``remote``'s folder.

    With ``checksum`` bytes are compared, not sizes and times. The names come on its standard
    input, relative to ``source``, each followed by a NUL byte.
    """
    argv = ["rsync", "-s", "--times", "--copy-links", "--partial", "--inplace"]
    argv += ["--from0", "--files-from=-", "-e", rsh(remote)]
    if checksum:
        argv.append("--checksum")
    return [*argv, "--", f"{source}/", f"{remote.address}:{remote.path}/"]


def push(source: Path, remote: Remote, names: Sequence[str], *, checksum: bool = False) -> None:
    """Bring files of a folder here into a folder of another node; the node proves them then.

    What is there with the same size and time (or the same bytes, with ``checksum``) is not sent
    again; a file that was cut off is gone on with.

    Raises:
        PullError: rsync is missing or failed.
    """
    _have_rsync(remote)
    done = subprocess.run(
        push_command(source, remote, checksum=checksum),
        input=b"".join(os.fsencode(f"./{name}") + b"\0" for name in names),  # "#x" is a comment
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise transfer.PullError(
            f"rsync to {remote.address}:{remote.path} ended with code {done.returncode}: "
            f"{_last_words(done.stderr)}. Check the way there: ssh {remote.address} true; what "
            "arrived is kept, run again to continue"
        )


def file_list(remote: Remote, names: Sequence[str]) -> bytes:
    r"""Return the names for ``--files-from``, each followed by a NUL byte.

    The source folder travels here and not in the argv, where the far rsync would expand its
    ``*``, ``?`` and ``[``; ``/./`` marks where the part that rsync keeps begins.
    """
    folder = posixpath.normpath("/" + remote.path.lstrip("/")).rstrip("/")
    return b"".join(os.fsencode(f"{folder}/./{name}") + b"\0" for name in names)


def staging_folder(remote: Remote, dest: Path) -> Path:
    """Return the folder a pull of ``remote`` into ``dest`` stages in: the same in every run.

    It lies beside ``dest``, or in it where ``dest`` is a disk of its own: a rename cannot
    cross disks.
    """
    identity = json.dumps([remote.host, remote.port, remote.user, remote.path, str(dest)])
    mark = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    beside = dest.parent
    while not beside.exists():
        beside = beside.parent
    own_disk = dest.is_dir() and dest.stat().st_dev != beside.stat().st_dev
    return (dest if own_disk else dest.parent) / f"{manifest.STAGING_PREFIX}{mark}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise transfer.PullError(f"refused the staging folder {folder}: another user owns it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise transfer.PullError(
                f"another pull is writing {folder}. Wait until it has ended, then run again"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _have_rsync(remote: Remote) -> None:
    if shutil.which("rsync") is None:
        raise transfer.PullError(
            f"expected rsync on {os.uname().nodename}, found none. Install it there and on "
            f"{remote.host}: apt-get install rsync"
        )


def _last_words(said: bytes) -> str:
    return " | ".join(said.decode("utf-8", "replace").strip().splitlines()[-_TAIL:])


def _run(remote: Remote, staging: Path, names: Sequence[str], bwlimit: str | None) -> None:
    _have_rsync(remote)
    done = subprocess.run(
        command(remote, staging, bwlimit),
        input=file_list(remote, names),
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        port = f"-p {remote.port} " if remote.port is not None else ""
        remedy = (
            f"Check the way there: ssh {port}{remote.address} true"
            if done.returncode == _SSH_FAILED or not any(staging.iterdir())
            else f"What arrived is kept in {staging}; run again to continue"
        )
        raise transfer.PullError(
            f"rsync from {remote.address}:{remote.path} ended with code {done.returncode}: "
            f"{_last_words(done.stderr)}. {remedy}"
        )


def _settle(staged: Path, target: Path, entry: Mapping[str, Any], verify: str) -> None:
    """Verify one staged file and rename it; a wrong one is removed from the staging folder."""
    descriptor = os.open(staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size != entry["size"]:
            staged.unlink()
            raise transfer.PullError(
                f"refused {target}: expected {entry['size']} bytes (the source's manifest), "
                f"received {size}. The source changed since; make the manifest again"
            )
        if verify != "false":
            found = manifest.hash_fd(descriptor)[0]
            if found != entry["blake2b"]:
                staged.unlink()
                raise transfer.mismatch(f"what came for {target}", entry["blake2b"], found)
        target.parent.mkdir(parents=True, exist_ok=True)
        transfer.settle(descriptor, staged, target, entry, verify)
    finally:
        os.close(descriptor)


def pull(
    remote: Remote,
    dest: Path,
    files: Mapping[str, Mapping[str, Any]],
    todo: transfer.Plan,
    verify: str,
    *,
    bwlimit: str | None = None,
) -> None:
    """Pull the planned files from another node.

    A staging folder that an earlier pull left is continued; whatever in it proves wrong is
    fetched anew once.

    Raises:
        PullError: rsync failed, space is short, or what came is not what the manifest says.
    """
    staging = staging_folder(remote, dest)
    resumed = staging.is_dir() and any(staging.iterdir())
    staged = [staging / name for name in todo.copy] if resumed else []
    here = sum(path.stat().st_size for path in staged if path.is_file())
    transfer.require_space(dest, max(0, todo.bytes - here))
    dest.mkdir(parents=True, exist_ok=True)

    def work(name: str) -> None:
        _settle(transfer.confined(staging, name), dest / name, files[name], verify)

    with _locked(staging):
        _run(remote, staging, todo.copy, bwlimit)
        try:
            transfer.each(todo.copy, work)
        except transfer.PullError:
            if not resumed:
                raise
            left = tuple(
                n for n in todo.copy if not transfer.up_to_date(dest / n, files[n], verify)
            )
            _run(remote, staging, left, bwlimit)
            transfer.each(left, work)
        transfer.sync_folders({(dest / name).parent for name in todo.copy})
        shutil.rmtree(staging)
