# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A connection beside ssh, which spares ssh's own work on every byte: the near end.

The far end (`sender`) is started through ssh, and tells through it where it listens and a secret
that is used once. Both ends prove that they have it (HMAC-SHA256 over nonces of both); it is never
sent in clear. The connection is TLS: its key and certificate are made here for one gather, reach
the far end through ssh, and are compared whole with what answers. Where the fleet declares its
network trusted, it is a plain one. Python 3.9 and later.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import os
import secrets
import socket
import ssl
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import sender

CURVE = "ec_paramgen_curve:prime256v1"
BEGIN = "-----BEGIN CERTIFICATE-----"
SECONDS = 20
SAID = 200


class UnreachableError(Exception):
    """There is no such connection; why."""


@functools.lru_cache(maxsize=1)
def certificate() -> str:
    """A key and a certificate, PEM, made for this process alone.

    Raises:
        UnreachableError: There is no openssl here, or it makes none.
    """
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", CURVE, "-nodes", "-batch"]
    files = ["-keyout", "/dev/stdout", "-out", "/dev/stdout"]
    try:
        done = subprocess.run(
            [*argv, *files, "-days", "2", "-subj", "/CN=swiftops"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"no openssl here, for TLS: {error}") from error
    if done.returncode:
        raise UnreachableError(f"openssl makes no certificate here: {done.stderr[-SAID:].strip()}")
    return done.stdout


def secured(connection: socket.socket, own: str) -> socket.socket:
    """The connection as TLS, whose other end has our certificate.

    Raises:
        OSError: It has another one, or says no TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # No authority and no clock is asked: the certificate is compared whole.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found = context.wrap_socket(connection)
    if found.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert(own[own.index(BEGIN) :]):
        found.close()
        raise ConnectionError("who answers there has another certificate")
    return found


def connect(told: Mapping[str, Any], own: str = "") -> socket.socket:
    """The proven connection to a far end.

    Args:
        told: What it said through ssh: ``address``, ``port`` and ``secret`` (hex), or ``error``.
        own: The key and certificate that it was given; "" for a plain connection.

    Raises:
        UnreachableError: The port cannot be reached in a few seconds, or who answers there has
            not got the secret, or the certificate.
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
        if own:
            connection = secured(connection, own)
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


def _below(connection: socket.socket) -> socket.socket:
    """The plain connection below TLS, for what another thread may do while TLS is read."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def end_with(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """Hang up when the process, which is the lifeline, ends."""

    def watch() -> None:
        process.wait()
        with contextlib.suppress(OSError), _below(connection) as plain:
            plain.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=watch, daemon=True).start()
