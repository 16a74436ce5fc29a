# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Authenticated JSON lines between two supervisors of one job.

Both ends first say a nonce in the clear; every line after that carries an HMAC-SHA256
over the job, the direction, both nonces, a running number and the body, keyed with the
job's token. A line that is replayed, reflected, reordered or made up does not fit.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
from typing import Any

Message = dict[str, Any]
MAX_LINE = 64 * 1024
_CHUNK = 65536


class RejectedError(Exception):
    """The other end said something that a supervisor of this job would not say."""


class ClosedError(Exception):
    """The other end is gone."""


class Wire:
    """One connection, never blocking.

    Args:
        sock: A connected socket; the wire owns it from now on.
        token: The secret that the job's supervisors share.
        job: What the connection is about: run id and stage.
        hub: Whether this end is the hub (the direction of a line is part of its HMAC).
    """

    def __init__(self, sock: socket.socket, token: str, job: str, *, hub: bool) -> None:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.node: str | None = None
        self._key = token.encode()
        self._job = job
        self._hub = hub
        self._own_nonce = secrets.token_hex(16)
        self._their_nonce: str | None = None
        self._sent = self._received = 0
        self._unsent: list[str] = []
        self._inbox = b""
        self._outbox = json.dumps({"nonce": self._own_nonce}).encode() + b"\n"

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors."""
        return self.sock.fileno()

    def send(self, message: Message) -> None:
        """Queue a message; it leaves with the next `flush`."""
        self._unsent.append(json.dumps(message))
        self._sign_queued()

    def flush(self) -> None:
        """Write what the socket takes now.

        Raises:
            ClosedError: The other end is gone.
        """
        while self._outbox:
            try:
                written = self.sock.send(self._outbox)
            except BlockingIOError:
                return
            except OSError as error:
                raise ClosedError(str(error)) from error
            self._outbox = self._outbox[written:]

    def receive(self) -> list[Message]:
        """Return the messages that have arrived.

        Raises:
            ClosedError: The other end is gone; raised only once all it said is read.
            RejectedError: A line is too long, malformed or wrongly authenticated.
        """
        try:
            chunk = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ClosedError(str(error)) from error
        if not chunk:
            raise ClosedError("the connection was closed")
        *lines, self._inbox = (self._inbox + chunk).split(b"\n")
        if len(self._inbox) > MAX_LINE:
            raise RejectedError("a line is longer than 64 KiB")
        found = [self._open(line) for line in lines]
        return [message for message in found if message is not None]

    def close(self) -> None:
        """Close the socket; what was read stays read."""
        self.sock.close()

    def _open(self, line: bytes) -> Message | None:
        try:
            envelope = json.loads(line)
            if self._their_nonce is None:
                self._their_nonce = str(envelope["nonce"])
                self._sign_queued()
                return None
            body, given = str(envelope["body"]), str(envelope["mac"])
            wanted = self._mac(body, self._received, from_hub=not self._hub)
            if not hmac.compare_digest(wanted.encode(), given.encode()):
                raise RejectedError("a message carries a wrong HMAC (another token or job)")
            message: Message = json.loads(body)
        except (ValueError, KeyError, TypeError) as error:
            raise RejectedError("a line is not of this protocol") from error
        self._received += 1
        return message

    def _sign_queued(self) -> None:
        if self._their_nonce is None:
            return
        for body in self._unsent:
            mac = self._mac(body, self._sent, from_hub=self._hub)
            self._outbox += json.dumps({"body": body, "mac": mac}).encode() + b"\n"
            self._sent += 1
        self._unsent = []

    def _mac(self, body: str, number: int, *, from_hub: bool) -> str:
        nonces = [self._own_nonce, str(self._their_nonce)]
        hub_nonce, other_nonce = nonces if self._hub else nonces[::-1]
        covered = json.dumps([self._job, from_hub, hub_nonce, other_nonce, number, body])
        return hmac.new(self._key, covered.encode(), hashlib.sha256).hexdigest()
