# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Find free TCP ports on a node.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket

# Below Linux's ephemeral range, which begins at 32768, so that no outgoing connection takes one.
PORTS = range(20000, 30000)


class PortError(Exception):
    """No port can be given; the sentence says why and what to do."""


def lease(count: int, address: str, ports: range, key: str = "") -> list[int]:
    """Return free ports, each proven by binding it.

    A port counts as free when the address and every other address of the node can be
    bound to it, since launchers listen on all addresses. Nothing keeps it free after
    the return: start what uses it soon.

    Args:
        count: How many.
        address: An address of this node.
        ports: Where to look.
        key: Says where in `ports` to begin; two runs with different keys seldom meet.

    Raises:
        PortError: The address is not this node's, or too few ports are free.
    """
    try:
        family = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise PortError(
            f"address: expected an address of this node, found {address!r} ({error}); "
            f"see: ip address"
        ) from error
    digest = hashlib.sha256(key.encode()).digest() if key else b"\0"
    offset = int.from_bytes(digest[:8], "big") % max(len(ports), 1)
    found: list[int] = []
    for index in range(len(ports)):
        if len(found) == count:
            break
        port = ports[(index + offset) % len(ports)]
        if _is_free(family, address, port):
            found.append(port)
    if len(found) < count:
        where = f"{ports.start}..{ports.stop - 1}" if ports else "an empty slice"
        raise PortError(
            f"expected {count} free ports of {address} in {where}, found {len(found)}; see what "
            f"uses them with: ss -ltn; or give another start and end"
        )
    return found


def _is_free(family: int, address: str, port: int) -> bool:
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 (bound for an instant, never listened on)
    for host in (address, wildcard):
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
