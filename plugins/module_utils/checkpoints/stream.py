# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""The near end of a stream: asks a node for files or ranges of them, and proves what comes.

One process a stream on the node that holds the files (`sender`), over ssh with the node's own
keys, or a plain child where the files are on this machine. Every chunk comes with the hash that
was computed at its source; it is written only if the bytes have that hash here. A file is
written from its beginning on, so that what an earlier stream left is its first chunks: their
hashes go with the request, and only what differs is sent. Over a network that is declared trusted
the same is said over a plain connection (`direct`). Standard library only, with ``xxhash`` where it
is found. Python 3.9 and later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import rsync
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import (
    direct,
    sender,
)

CHUNK = 1024 * 1024
"""Bytes of a chunk: hashed, sent and proven as one."""

CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"
_BOOT = "import sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
FATAL = frozenset({"lost", "full", "damaged"})
"""Kinds of trouble that end a stream; others are of one file."""
_ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
_TAIL = 500


class StreamError(Exception):
    """A stream broke, or what came is not what its source says.

    Args:
        kind: ``lost`` (the way or the node is gone), ``changed``, ``short``, ``unreadable``,
            ``damaged`` or ``full`` (no space here).
        text: The sentence.
        node: The source.
    """

    def __init__(self, kind: str, text: str, node: str) -> None:
        super().__init__(f"{node}: {text}")
        self.kind, self.node = kind, node


@dataclass(frozen=True)
class Source:
    """A folder that holds files.

    Attributes:
        node: The node's name, for messages.
        path: Absolute folder there.
        remote: How ssh reaches it; None for a folder of this machine.
        python: The interpreter there.
        rate: Bytes a second at most; 0 for as fast as it goes.
        direct: Whether a connection beside ssh is tried: by TLS, or a plain one if it is trusted.
        trusted: Whether the way there is declared trusted.
    """

    node: str
    path: str
    remote: rsync.Remote | None = None
    python: str = "python3"
    rate: int = 0
    direct: bool = False
    trusted: bool = False


@dataclass(frozen=True)
class Wish:
    """A file to bring here.

    Attributes:
        name: Relative path below the source's folder, and below the target.
        size: Its bytes there, as listed.
        ranges: (offset, length) in the order in which they lie in the target; None for all.
    """

    name: str
    size: int
    ranges: tuple[tuple[int, int], ...] | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the target."""
        return self.size if self.ranges is None else sum(length for _, length in self.ranges)


@dataclass
class Arrived:
    """What came of a wish.

    Attributes:
        size: Bytes of the target.
        moved: Bytes that were sent.
        mtime_ns: The source's time.
        digests: Hash of each chunk.
    """

    size: int = 0
    moved: int = 0
    mtime_ns: int = 0
    digests: list[str] = field(default_factory=list)


def command(source: Source) -> list[str]:
    """The argv that starts the far end."""
    remote = source.remote
    if remote is None:
        return [source.python, "-c", _BOOT]
    argv = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "Compression=no", "-c", CIPHERS, *_ALIVE]
    if remote.port is not None:
        argv += ["-p", str(remote.port)]
    if remote.user is not None:
        argv += ["-l", remote.user]
    argv += [*remote.ssh_options, "--", remote.host.strip("[]")]
    return [*argv, f"exec {shlex.quote(source.python)} -c {shlex.quote(_BOOT)}"]


def _program() -> bytes:
    """The sender's own source; from a zip file where Ansible runs a module."""
    loader = sender.__loader__
    text: str = loader.get_source(sender.__name__)
    return text.encode()


def _widen(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a limit of this machine
        fcntl.fcntl(pipe, sender.F_SETPIPE_SZ, sender.WIDE)


class Stream:
    """One far end, to be asked for files.

    Attributes:
        transport: ``ssh``, or ``tls`` or ``tcp`` for a connection beside it.
        notice: Why it is not the connection that was asked for; "" where it is.

    Raises:
        StreamError: It cannot be reached.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._process = subprocess.Popen(
            command(source),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert self._process.stdin  # noqa: S101 as asked for
        assert self._process.stdout  # noqa: S101 as asked for
        self._to, self._from = self._process.stdin, self._process.stdout
        _widen(self._from)
        program = _program()
        self._say(str(len(program)).encode() + b"\n" + program)
        theirs = self._line()["hashes"]
        self.hash = next(name for name in sender.hashes() if name in theirs)
        self._digest_of = sender.hashes()[self.hash]
        self._buffer = memoryview(bytearray(CHUNK))
        self.transport, self.notice = "ssh", ""
        if source.direct:
            self._leave_ssh()

    def _leave_ssh(self) -> None:
        """Say the rest over a connection beside it, if there is a way for one."""
        try:
            own = "" if self.source.trusted else direct.certificate()
            self._say(json.dumps({"listen": True, "certificate": own}).encode() + b"\n")
            connection = direct.connect(self._line(), own)
        except direct.UnreachableError as error:
            self.notice = f"{self.source.node}: {error}; its files come through ssh"
            return
        direct.end_with(self._process, connection)
        with connection:  # lives on in its files
            self._to, self._from = connection.makefile("wb"), connection.makefile("rb")
        self.transport = "tls" if own else "tcp"

    def close(self) -> None:
        """End the far end."""
        process = self._process
        for pipe in (self._to, self._from, process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()

    def _say(self, data: bytes) -> None:
        try:
            self._to.write(data)
            self._to.flush()
        except OSError as error:
            raise self._lost() from error

    def _lost(self) -> StreamError:
        """Why the other end is gone, in its own last words."""
        self._process.kill()
        said = self._process.stderr.read() if self._process.stderr else b""
        words = said.decode("utf-8", "replace").strip()[-_TAIL:]
        return StreamError("lost", f"the stream broke: {words or 'no word'}", self.source.node)

    def _line(self) -> dict[str, Any]:
        try:
            line = self._from.readline(sender.MAX_LINE)
        except OSError as error:  # a connection that was reset
            raise self._lost() from error
        if not line.endswith(b"\n"):
            raise self._lost()
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise StreamError("lost", f"said {line[:80]!r} in the stream", self.source.node)
        return found

    def _bytes(self, buffer: memoryview) -> None:
        filled = 0
        while filled < len(buffer):
            try:
                count = self._from.readinto(buffer[filled:])  # type: ignore[attr-defined]
            except OSError as error:  # a connection that was reset
                raise self._lost() from error
            if not count:
                raise self._lost()
            filled += count

    def fetch(
        self, wishes: Sequence[Wish], folder: Path, moved: Callable[[int, int], None]
    ) -> Iterator[tuple[str, Arrived | StreamError]]:
        """Bring files into ``folder``; one answer a wish, in their order.

        Args:
            wishes: What to bring.
            folder: Where; files that lie there already are gone on with.
            moved: Called with the bytes that were sent, and those that need not be, as they come.

        Raises:
            StreamError: The stream broke, or no space is left; what has arrived stays.
        """
        self._say(json.dumps(_request(self.source, self.hash, wishes, folder)).encode() + b"\n")

        def bring(target: Target) -> None:
            while not target.done:
                self._pass_on(target)

        targets = [Target(self.source.node, wish, folder / wish.name, moved) for wish in wishes]
        yield from _brought(targets, bring)

    def _pass_on(self, target: Target) -> None:
        """Take one message, prove the bytes that it brings, and hand them on."""
        line = self._line()
        count = int(line.get("bytes", 0))
        if not 0 <= count <= CHUNK:
            raise StreamError("lost", f"said a chunk of {count} bytes", self.source.node)
        data = self._buffer[: 0 if line.get("same") else count]
        self._bytes(data)
        if data and self._digest_of(data).hexdigest() != line["digest"]:
            where = f"{target.wish.name}, bytes from {target.arrived.size} on"
            text = f"{where}: not what was hashed there"
            raise StreamError("damaged", text, self.source.node)
        target.take(line, data)


class Near:
    """Files of this machine: read, hashed and written without a way between."""

    transport, notice = "local", ""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.hash = next(iter(sender.hashes()))

    def close(self) -> None:
        """Nothing to end."""

    def fetch(
        self, wishes: Sequence[Wish], folder: Path, moved: Callable[[int, int], None]
    ) -> Iterator[tuple[str, Arrived | StreamError]]:
        """As `Stream.fetch`."""
        digest_of = sender.hashes()[self.hash]

        def bring(target: Target) -> None:
            request = _request(self.source, self.hash, [target.wish], folder)
            sender.Sending(target.take, request, digest_of).all()

        targets = [Target(self.source.node, wish, folder / wish.name, moved) for wish in wishes]
        yield from _brought(targets, bring)


def _brought(
    targets: Sequence[Target], bring: Callable[[Target], None]
) -> Iterator[tuple[str, Arrived | StreamError]]:
    """Bring one file after the other; trouble with one is its answer, a broken stream is raised."""
    for target in targets:
        try:
            bring(target)
        except StreamError as error:
            if error.kind in FATAL:
                raise
            yield target.wish.name, error
        else:
            yield target.wish.name, target.arrived
        finally:
            target.close()


class Target:
    """A file that arrives.

    Args:
        node: The source, for messages.
        wish: What was asked for.
        path: Where it goes.
        moved: Called with the bytes that were sent, and those that need not be.
    """

    def __init__(
        self, node: str, wish: Wish, path: Path, moved: Callable[[int, int], None]
    ) -> None:
        self.node, self.wish, self.path, self.moved = node, wish, path, moved
        self.arrived = Arrived()
        self.done = False
        self._descriptor = -1

    def close(self) -> None:
        """Close the file; what has arrived stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def take(self, message: Mapping[str, Any], data: bytes | memoryview) -> None:
        """Do what a message of the source says.

        Args:
            message: See `sender`.
            data: Its bytes, proven.

        Raises:
            StreamError: It tells of trouble, does not fit, or cannot be written.
        """
        if "error" in message:
            raise StreamError(str(message["kind"]), str(message["error"]), self.node)
        try:
            if "file" in message:
                self._begin()
            elif "end" in message:
                self._end(int(message["mtime_ns"]))
            else:
                self._chunk(int(message["bytes"]), str(message["digest"]), data)
        except OSError as error:
            text = f"cannot write {self.path} here: {error.strerror}"
            raise StreamError("full", text, self.node) from error

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o644)

    def _chunk(self, count: int, digest: str, data: bytes | memoryview) -> None:
        if count <= 0 or self.arrived.size + count > self.wish.bytes:
            raise StreamError("lost", f"said a chunk of {count} bytes", self.node)
        _pwrite(self._descriptor, memoryview(data), self.arrived.size)
        self.arrived.size += count
        self.arrived.moved += len(data)
        self.arrived.digests.append(digest)
        self.moved(len(data), count - len(data))

    def _end(self, mtime_ns: int) -> None:
        if self.arrived.size != self.wish.bytes:
            text = f"{self.wish.name} came with {self.arrived.size} of {self.wish.bytes} bytes"
            raise StreamError("short", text, self.node)
        os.ftruncate(self._descriptor, self.arrived.size)
        os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
        self.arrived.mtime_ns = mtime_ns
        self.done = True


def _request(source: Source, name: str, wishes: Sequence[Wish], folder: Path) -> dict[str, Any]:
    """What the far end is asked for: with hashes of what is here already."""
    digest_of = sender.hashes()[name]
    files = [
        {**vars(wish), "have": _held(folder / wish.name, wish.bytes, digest_of)} for wish in wishes
    ]
    return {
        "root": source.path,
        "hash": name,
        "chunk": CHUNK,
        "rate": source.rate,
        "files": files,
    }


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count


def _held(path: Path, size: int, digest_of: sender.Hash) -> list[str]:
    """Hashes of the whole chunks that a file here has, and of the last one where it is whole."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        here = min(os.fstat(descriptor).st_size, size)
        usable = here if here == size else here - here % CHUNK
        buffer = memoryview(bytearray(CHUNK))
        found = []
        for offset in range(0, usable, CHUNK):
            want = min(CHUNK, usable - offset)
            if os.preadv(descriptor, [buffer[:want]], offset) != want:
                break
            found.append(digest_of(buffer[:want]).hexdigest())
        return found
    finally:
        os.close(descriptor)
