# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Names and proxies: what peers and this node itself resolve to, and what goes around a proxy.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
GLOO = "GLOO_SOCKET_IFNAME"
HOSTS = Path("/etc/hosts")


def look(peers: Iterable[str], env: Mapping[str, str], network_file: str = "") -> dict[str, Any]:
    """Return what names resolve to, what /etc/hosts says, and proxies.

    Args:
        peers: Addresses of all nodes, as the launch names them.
        env: Variables that jobs get beside the login's own.
        network_file: Variables of the network that jobs read on this node; may be missing.
    """
    own = socket.gethostname()
    return {
        "hostname": own,
        "own": resolve(own),
        "localhost": resolve("localhost"),
        "peers": {peer: resolve(peer) for peer in peers if not is_address(peer)},
        "hosts": parse_hosts(_text(HOSTS)),
        "addresses": own_addresses(),
        "interface": interface(Path(network_file)) if network_file else "",
        "login": {"proxies": proxies(os.environ), "no_proxy": no_proxy(os.environ)},
        "jobs": {"proxies": proxies(env), "no_proxy": no_proxy(env)},
    }


def interface(file: Path) -> str:
    """Return the interface that a file of variables names for Gloo; empty if it names none."""
    for line in _text(file).splitlines():
        name, _, value = line.partition("=")
        if name.strip() == GLOO:
            return value.strip().strip("\"'")
    return ""


def is_address(text: str) -> bool:
    """Tell whether a text is an address and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolve(name: str) -> dict[str, Any]:
    """Return the addresses of a name, in the order that programs try them."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        return {"addresses": [], "error": str(problem)}
    return {"addresses": list(dict.fromkeys(str(item[4][0]) for item in found)), "error": ""}


def parse_hosts(text: str) -> dict[str, list[str]]:
    """Read /etc/hosts: name to its addresses, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        for name in words[1:]:
            found.setdefault(name, []).append(words[0])
    return found


def own_addresses(table: Path = Path("/proc/net/fib_trie")) -> list[str]:
    """Return this machine's IPv4 addresses: local entries of the kernel's routes."""
    found, last = [], ""
    for line in _text(table).splitlines():
        words = line.split()
        if words[:1] in (["|--"], ["+--"]) and len(words) > 1:
            last = words[1].partition("/")[0]
        elif words[:2] == ["/32", "host"] and words[2:] == ["LOCAL"] and last not in found:
            found.append(last)
    return found


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    """Return proxy variables that are set, without a password in them; small names win."""
    found = {}
    for name in PROXIES:
        value = env.get(name) or env.get(name.upper()) or ""
        if value:
            scheme, _, rest = value.rpartition("://")
            found[name] = f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest
    return found


def no_proxy(env: Mapping[str, str]) -> list[str]:
    """Return the entries of no_proxy."""
    value = env.get("no_proxy") or env.get("NO_PROXY") or ""
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
