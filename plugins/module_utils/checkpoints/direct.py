# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A plain connection beside ssh, where the fleet declares its network trusted: the near end.

The far end (`sender`) is started through ssh, and tells through it where it listens and a secret
that is used once. Both ends prove that they have it (HMAC-SHA256 over nonces of both), it is never
sent in clear, and nothing else is encrypted. Python 3.9 and later.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import sender


class UnreachableError(Exception):
    """There is no such connection; why."""


def connect(told: Mapping[str, Any]) -> socket.socket:
    """The proven connection to a far end.

    Args:
        told: What it said through ssh: ``address``, ``port`` and ``secret`` (hex), or ``error``.

    Raises:
        UnreachableError: The port cannot be reached in a few seconds, or who answers there has
            not got the secret.
    """
    if "error" in told:
        raise UnreachableError(str(told["error"]))
    address, port, secret = str(told["address"]), int(told["port"]), bytes.fromhex(told["secret"])
    where = f"port {port} of {address}"
    try:
        connection = socket.create_connection((address, port), sender.PATIENCE)
    except OSError as error:
        raise UnreachableError(f"{where} cannot be reached: {error}") from error
    try:
        theirs = sender.exactly(connection, sender.NONCE)
        nonces = theirs + secrets.token_bytes(sender.NONCE)
        mine = sender.proof(secret, b"receiver", nonces)
        connection.sendall(nonces[sender.NONCE :] + mine)
        said = sender.exactly(connection, sender.PROOF)
        if not hmac.compare_digest(said, sender.proof(secret, b"sender", nonces)):
            raise ConnectionError("who answers there has not got the secret")
    except OSError as error:
        connection.close()
        raise UnreachableError(f"{where} is not the sender: {error}") from error
    connection.settimeout(None)
    return connection


def end_with(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """Hang up when the process, which is the lifeline, ends."""

    def watch() -> None:
        process.wait()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=watch, daemon=True).start()
