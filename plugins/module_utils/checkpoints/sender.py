# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""The far end of a stream: reads files, or ranges of them, hashes them and writes them out.

The receiver sends this file through ssh to the Python of the node that holds the files, so that
nothing needs to be installed there; it therefore stands alone. Standard library only, with
``xxhash`` (which ms-swift's environment has) where it is found. Python 3.9 and later.

What is said, in lines of JSON: first ``{"hashes": [...], "host": ...}``; then the receiver's
request::

    {"root": folder, "hash": name, "chunk": bytes, "rate": bytes a second or 0,
     "files": [{"name": ..., "size": ..., "ranges": [[offset, length], ...] or null,
                "have": [digest of each chunk that the receiver holds already]}]}

and for each file a head (``{"file": name}``), for each chunk ``{"bytes": n, "digest": ...}`` and
its bytes (or ``"same": true`` and none, where the receiver has them), and an end (``{"end": name,
"mtime_ns": ...}``), or ``{"error": ..., "kind": ...}``.

Where a connection beside ssh may be made, the first request is ``{"listen": true, "certificate":
PEM}``; the answer is ``{"address": ..., "port": ..., "secret": hex}``, and what follows goes over
the connection whose other end proved the secret; ssh's own stays open as the lifeline of both. It
is TLS with that key and certificate, which the receiver made for this gather; plain, where there
is none, as the fleet declares its network trusted. Any other request in its place says that the
port could not be reached: all goes through ssh then.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import IO, Any

MAX_LINE = 256 * 1024 * 1024
BLAKE2B = "blake2b"
XXH3 = "xxh3"
IDLE = 0.05
WIDE = 1024 * 1024
F_SETPIPE_SZ = 1031  # Python 3.10 has a name for it
NONCE = 16
PROOF = 32
PATIENCE = 3.0
"""Seconds that a connection, or its proof, may take."""


Hash = Callable[..., Any]
Piece = list[tuple[int, int]]
Put = Callable[[Any], None]
"""Writes all of some bytes to the receiver."""


def hashes() -> dict[str, Hash]:
    """Names of the hashes that this Python has, to the functions; the fastest first."""
    found: dict[str, Hash] = {}
    try:
        import xxhash  # noqa: PLC0415 not every Python has it

        found[XXH3] = xxhash.xxh3_128
    except (ImportError, AttributeError):
        pass
    found[BLAKE2B] = lambda data: hashlib.blake2b(data, digest_size=16)
    return found


class TroubleError(Exception):
    """A file cannot be sent; what kind of trouble it is, and the sentence."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def pieces(ranges: Iterable[Iterable[int]], chunk: int) -> Iterator[Piece]:
    """Lists of (offset, length), each of which makes one chunk of the stream."""
    piece: Piece = []
    room = chunk
    for begin, length in ranges:
        at, end = begin, begin + length
        while at < end:
            part = min(end - at, room)
            piece.append((at, part))
            at, room = at + part, room - part
            if not room:
                yield piece
                piece, room = [], chunk
    if piece:
        yield piece


def read_piece(descriptor: int, piece: Piece, buffer: memoryview, name: str) -> memoryview:
    """The bytes of one chunk, in ``buffer``.

    Raises:
        TroubleError: The file ends before them.
    """
    filled = 0
    for offset, length in piece:
        begin, end = filled, filled + length
        while filled < end:
            at = offset + filled - begin
            count = os.preadv(descriptor, [buffer[filled:end]], at)
            if not count:
                raise TroubleError("short", f"{name} ended at byte {at}")
            filled += count
    return buffer[:filled]


class Pace:
    """Holds a stream below a rate in bytes a second; 0 does not hold it."""

    def __init__(self, rate: float) -> None:
        self.rate, self.due = rate, time.monotonic()

    def wait(self, count: int) -> None:
        """Sleep as long as ``count`` bytes may take, less what has passed."""
        if not self.rate:
            return
        now = time.monotonic()
        self.due = max(self.due, now - IDLE) + count / self.rate
        if self.due > now:
            time.sleep(self.due - now)


def write(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``."""
    data = memoryview(data)
    while data:
        data = data[os.write(descriptor, data) :]


def tell(put: Put, message: dict[str, Any], data: bytes | memoryview = b"") -> None:
    """Write a line of JSON, and the bytes that belong to it."""
    put(json.dumps(message).encode() + b"\n")
    if data:
        put(data)


def opened(path: str, name: str, size: int) -> int:
    """A descriptor of the file, which must be as it was listed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TroubleError("unreadable", f"cannot read {path}: {error.strerror}") from error
    found = os.fstat(descriptor)
    if found.st_size != size:
        os.close(descriptor)
        raise TroubleError(
            "changed", f"{name} was listed with {size} bytes and has {found.st_size}"
        )
    return descriptor


class Sending:
    """One request being answered.

    Args:
        emit: Called with a message, and with the bytes that belong to it.
        request: The request.
        digest_of: The hash that it names.
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any], bytes | memoryview], None],
        request: dict[str, Any],
        digest_of: Hash,
    ) -> None:
        self.emit, self.request, self.digest_of = emit, request, digest_of
        self.pace = Pace(request.get("rate") or 0)
        self.buffer = memoryview(bytearray(request["chunk"]))

    def all(self) -> None:
        """Answer for every file; trouble with one is told, and the next one is sent."""
        for wish in self.request["files"]:
            try:
                self.file(wish)
            except TroubleError as trouble:
                self.tell({"error": str(trouble), "kind": trouble.kind, "of": wish["name"]})
            except OSError as error:
                text = f"cannot read {wish['name']}: {error}"
                self.tell({"error": text, "kind": "unreadable", "of": wish["name"]})

    def tell(self, message: dict[str, Any]) -> None:
        """A message without bytes."""
        self.emit(message, b"")

    def file(self, wish: dict[str, Any]) -> None:
        """Send one file's chunks.

        Raises:
            TroubleError: It cannot be read, or changed while it was read.
        """
        name = wish["name"]
        path = os.path.join(self.request["root"], name)  # noqa: PTH118 bytes that are no UTF-8 stay
        descriptor = opened(path, name, wish["size"])
        try:
            before = os.fstat(descriptor)
            self.tell({"file": name})
            self.chunks(descriptor, wish, before.st_size)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise TroubleError("changed", f"{name} changed while it was read")
        self.tell({"end": name, "mtime_ns": after.st_mtime_ns})

    def chunks(self, descriptor: int, wish: dict[str, Any], size: int) -> None:
        """Send what the receiver lacks; say of the rest that it is the same."""
        ranges = [(0, size)] if wish["ranges"] is None else wish["ranges"]
        have = wish.get("have") or []
        for at, piece in enumerate(pieces(ranges, self.request["chunk"])):
            data = read_piece(descriptor, piece, self.buffer, wish["name"])
            digest = self.digest_of(data).hexdigest()
            message = {"bytes": len(data), "digest": digest}
            if at < len(have) and have[at] == digest:
                self.tell({**message, "same": True})
                continue
            self.pace.wait(len(data))
            self.emit(message, data)


def widen(out: int) -> None:
    """Let more of a chunk be on its way at once: a pipe here, a socket under sshd."""
    try:
        fcntl.fcntl(out, F_SETPIPE_SZ, WIDE)
    except OSError:
        try:
            with socket.socket(fileno=os.dup(out)) as end:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WIDE)
        except OSError:
            pass  # neither, or a limit of this machine: it goes on with what it has


def proof(secret: bytes, who: bytes, nonces: bytes) -> bytes:
    """What only an end that has the secret can say to these nonces."""
    return hmac.new(secret, who + nonces, "sha256").digest()


def exactly(connection: socket.socket, count: int) -> bytes:
    """The next bytes.

    Raises:
        OSError: There are not so many, or not in time.
    """
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise ConnectionError("the other end hung up")
        found += more
    return found


def secured(connection: socket.socket, certificate: str) -> socket.socket:
    """The connection as a TLS server with this key and certificate, which touch no disk.

    Raises:
        OSError: The other end says no TLS.
    """
    import ssl  # noqa: PLC0415 a trusted network needs none

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.num_tickets = ssl.TLSVersion.TLSv1_3, 0
    descriptor = os.memfd_create("certificate")
    try:
        write(descriptor, certificate.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context.wrap_socket(connection, server_side=True)


def proven(connection: socket.socket, secret: bytes) -> bool:
    """Whether the other end has the secret; tells it that this one has."""
    try:
        mine = secrets.token_bytes(NONCE)
        connection.sendall(mine)
        theirs = exactly(connection, NONCE)
        said = exactly(connection, PROOF)
        if not hmac.compare_digest(said, proof(secret, b"receiver", mine + theirs)):
            return False
        connection.sendall(proof(secret, b"sender", mine + theirs))
        connection.settimeout(None)
    except OSError:
        return False
    return True


def used(connection: socket.socket, lines: IO[bytes]) -> bool:
    """Whether the receiver goes on over the connection; it may have lost patience with it."""
    ready, _, _ = select.select([connection, lines], [], [])
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as below:  # TLS cannot peek
            return connection in ready and bool(below.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def listening() -> socket.socket:
    """A port at the address by which ssh reached this machine.

    Raises:
        OSError: It cannot be had.
    """
    way = os.environ.get("SSH_CONNECTION", "").split()  # sshd: client, its port, server, its port
    address = way[2] if len(way) == 4 else "127.0.0.1"  # noqa: PLR2004 as said above
    found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    family, kind, number, _, where = found[0]
    listener = socket.socket(family, kind, number)
    try:
        listener.bind(where)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def answered(connection: socket.socket, secret: bytes, certificate: str) -> socket.socket | None:
    """The connection, encrypted where there is a certificate; None if it is a stranger's."""
    connection.settimeout(PATIENCE)
    try:
        if certificate:
            connection = secured(connection, certificate)
        if proven(connection, secret):
            return connection
    except (OSError, ImportError):  # a Python without TLS, too
        pass
    connection.close()
    return None


def met(lines: IO[bytes], put: Put, certificate: str) -> socket.socket | None:
    """The connection of the receiver; None where it says something over ssh first."""
    try:
        listener = listening()
    except OSError as error:
        tell(put, {"error": f"cannot listen: {error}"})
        return None
    with listener:
        secret = secrets.token_bytes(PROOF)
        address, port = listener.getsockname()[:2]
        tell(put, {"address": address, "port": port, "secret": secret.hex()})
        while True:
            ready, _, _ = select.select([listener, lines], [], [])
            if lines in ready:
                return None
            connection = answered(listener.accept()[0], secret, certificate)
            if connection is not None and used(connection, lines):
                return connection
            if connection is not None:
                connection.close()


def end_with(descriptor: int) -> None:
    """End this process when the other end of the lifeline is gone."""

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def serve(lines: IO[bytes], out: int) -> None:
    """Answer one request after the other, until the receiver says no more."""
    widen(out)
    known, put = hashes(), partial(write, out)
    tell(put, {"hashes": list(known), "host": os.uname()[1]})
    connection = None
    while True:
        line = lines.readline(MAX_LINE)
        if not line.strip():
            return
        request = json.loads(line)
        if request.get("listen") and connection is None:
            connection = met(lines, put, request.get("certificate", ""))
            if connection is not None:
                end_with(lines.fileno())
                lines, put = connection.makefile("rb"), connection.sendall
            continue
        digest_of = known[request["hash"]]
        Sending(partial(tell, put), request, digest_of).all()


if __name__ == "__main__":
    try:
        serve(sys.stdin.buffer, 1)
    except OSError as gone:  # who asked, or the way there
        sys.exit(str(gone))
