# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What listens on a node, read from /proc.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

LISTENING = "0A"  # a state in /proc/net/tcp


def sockets() -> list[tuple[str, int, str]]:
    """Address, port and inode of each socket that listens."""
    found = []
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:  # noqa: PTH123 a plain read
                rows = [line.split() for line in file][1:]
        except FileNotFoundError:
            continue
        for row in rows:
            if row[3] == LISTENING:
                words, _, port = row[1].partition(":")
                packed = b"".join(
                    struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8)
                )
                found.append((socket.inet_ntop(family, packed), int(port, 16), row[9]))
    return found


def listens(address: str, port: int) -> bool:
    """Whether something takes connections at an address and port."""
    return any(at in {address, "0.0.0.0", "::"} and on == port for at, on, _ in sockets())  # noqa: S104 compared, not bound


def is_here(address: str) -> bool:
    """Whether a program on this machine may listen at the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def listeners(program: str, ports: list[int]) -> list[int]:
    """Processes of that name that hold a listening socket on one of the ports."""
    wanted = {f"socket:[{inode}]" for _, port, inode in sockets() if port in ports}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 names
    return [pid for pid in pids if wanted & _held(pid) and program_of(pid) == program]


def _held(pid: int) -> set[str]:
    """What the open files of a process are; none where it is gone, or not ours."""
    held, folder = set(), f"/proc/{pid}/fd"
    try:
        for number in os.listdir(folder):  # noqa: PTH208 names are enough
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                held.add(os.readlink(f"{folder}/{number}"))  # noqa: PTH115 sockets are no paths
    except OSError:
        return set()
    return held


def program_of(pid: int) -> str:
    """The name of a process."""
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:  # noqa: PTH123 a plain read
        return file.read().strip()
