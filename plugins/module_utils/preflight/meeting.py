# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""All nodes meet for a moment: who reaches whom, how clocks differ, what disks they share.

Every node listens on ports of its own, connects to those of all others, and goes when it knows
enough. A connection carries a greeting each way, with the token of this preflight and the time. A
node that has greeted another has left its probe files before, so that the other may look for them.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 3.0
RETRY_SECONDS = 0.25
PATIENCE_SECONDS = 4.0  # for a peer that is known to be there, and does not come in
SEEN_AGAIN_SECONDS = 0.5
_LINE_BYTES = 4096
_PROBE = ".swiftops-preflight-"


class Peer:
    """What is known of another node.

    Attributes:
        ports: Those that it listens on, in the order of the request.
        reached: Port to "" or why it was not reached.
        offset: Its clock less this one, in seconds, and the bound of that.
        came: Ports of this node that it reached.
        up_since: When it was first known to be there.
        looked: Whether its probe files were looked for.
        shared: Path to whether its probe file is seen here.
        sees_root: Whether its own directory is seen here, under its own path.
    """

    def __init__(self, address: str, ports: Sequence[int], root: str) -> None:
        self.address, self.ports, self.root = address, list(ports), root
        self.reached: dict[int, str] = {}
        self.offset: tuple[float, float] | None = None
        self.came: set[int] = set()
        self.up_since: float | None = None
        self.looked = False
        self.shared: dict[str, bool] = {}
        self.sees_root = False

    def told(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "ports": {str(port): self.reached.get(port, "") for port in self.ports},
            "offset": None if self.offset is None else list(self.offset),
            "came": sorted(self.came),
            "there": self.up_since is not None,
            "shared": self.shared,
            "sees_root": self.sees_root,
        }


class Probes:
    """Files that say whose disk this is; removed at the end.

    Args:
        node: This node's name.
        token: Of this preflight.
        paths: Folders that are there; in others nothing is made.
    """

    def __init__(self, node: str, token: str, paths: Sequence[str]) -> None:
        self._node, self._token = node, token
        self.failed: dict[str, str] = {}
        self.made: dict[str, Path] = {}
        for path in paths:
            file = Path(path, f"{_PROBE}{token}-{node}")
            try:
                if not Path(path).is_dir():
                    self.failed[path] = "no such folder"
                    continue
                file.write_text(f"{token} {node}\n", encoding="utf-8")
            except OSError as problem:
                self.failed[path] = str(problem)
                continue
            self.made[path] = file

    def sees(self, path: str, node: str) -> bool:
        """Tell whether another node's file is seen here; NFS may need a second look."""
        file = Path(path, f"{_PROBE}{self._token}-{node}")
        for pause in (SEEN_AGAIN_SECONDS, 0):
            try:
                return file.read_text(encoding="utf-8").split() == [self._token, node]
            except OSError:
                with contextlib.suppress(OSError):
                    os.listdir(path)  # noqa: PTH208 has the client ask its server again
                time.sleep(pause if _is_remote(path) else 0)
        return False

    def remove(self) -> None:
        """Take this node's files away."""
        for file in self.made.values():
            with contextlib.suppress(OSError):
                file.unlink()


def _is_remote(path: str) -> bool:
    """Tell whether a path lies on no disk of this machine: its device has no major number."""
    try:
        return os.major(os.stat(path).st_dev) == 0  # noqa: PTH116 plain text
    except OSError:  # no such folder here
        return False


class Meeting:
    """One node's part in it.

    Args:
        node: This node's name.
        token: Of this preflight; who does not know it is no peer.
        nodes: Name to `address`, `ports` and `root`, this node among them.
        probes: Files that were left for the others.
        seconds: When to go at the latest.
    """

    def __init__(
        self,
        node: str,
        token: str,
        nodes: Mapping[str, Mapping[str, Any]],
        probes: Probes,
        seconds: float,
    ) -> None:
        self._node, self._token, self._probes = node, token, probes
        self._own, self._root = nodes[node], str(nodes[node]["root"])
        self.peers = {
            name: Peer(item["address"], item["ports"], item["root"])
            for name, item in nodes.items()
            if name != node
        }
        self._selector = selectors.DefaultSelector()
        self._deadline = time.monotonic() + seconds
        self._next: dict[tuple[str, int], float] = {}
        self.problems: dict[str, str] = {}

    def hold(self) -> dict[str, Any]:
        """Listen, connect to all, and return what came of it."""
        begin = time.monotonic()
        listeners = self._listen()
        try:
            self._next = {
                (name, port): 0.0 for name in self.peers for port in self.peers[name].ports
            }
            while not self._over():
                self._connect_due()
                for key, _ in self._selector.select(0.05):
                    key.data()
        finally:
            for key in list(self._selector.get_map().values()):
                with contextlib.suppress(OSError):
                    key.fileobj.close()
            for listener in listeners:
                listener.close()
            self._selector.close()
        return {
            "peers": {name: peer.told() for name, peer in self.peers.items()},
            "listening": {
                str(port): self.problems.get(str(port), "") for port in self._own["ports"]
            },
            "shared_failed": self._probes.failed,
            "seconds": round(time.monotonic() - begin, 3),
        }

    # How long.

    def _over(self) -> bool:
        now = time.monotonic()
        return now > self._deadline or all(self._done(peer, now) for peer in self.peers.values())

    def _done(self, peer: Peer, now: float) -> bool:
        """Whether nothing more is to be learned of a peer."""
        settled = all(port in peer.reached and not peer.reached[port] for port in peer.ports)
        if settled and len(peer.came) == len(self._own["ports"]) - len(self.problems):
            return True
        return peer.up_since is not None and now - peer.up_since > PATIENCE_SECONDS

    def _there(self, peer: Peer) -> None:
        if peer.up_since is None:
            peer.up_since = time.monotonic()

    # Others come in.

    def _listen(self) -> list[socket.socket]:
        found = []
        family = socket.AF_INET6 if ":" in self._own["address"] else socket.AF_INET
        for port in self._own["ports"]:
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self._own["address"], port))
                listener.listen(512)
            except OSError as problem:
                self.problems[str(port)] = str(problem)
                listener.close()
                continue
            listener.settimeout(0)
            self._selector.register(
                listener, selectors.EVENT_READ, lambda one=listener: self._accept(one)
            )
            found.append(listener)
        return found

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.settimeout(0)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._answer(sock))

    def _answer(self, sock: socket.socket) -> None:
        """Read a greeting, say who this is and what time it is."""
        word = self._word(sock)
        self._selector.unregister(sock)
        if word is not None and word.get("node") in self.peers:
            self._look(word["node"])  # it waits for the answer, and its probe files with it
            with contextlib.suppress(OSError):
                sock.sendall(self._greeting())
            peer, port = self.peers[word["node"]], sock.getsockname()[1]
            peer.came.add(port)
            self._there(peer)
        sock.close()

    def _greeting(self) -> bytes:
        told = {"token": self._token, "node": self._node, "time": time.time()}
        return json.dumps(told).encode() + b"\n"

    def _word(self, sock: socket.socket) -> dict[str, Any] | None:
        """Return a greeting of this preflight; None for anything else."""
        try:
            word = json.loads(sock.recv(_LINE_BYTES))
            return word if word["token"] == self._token else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    # This node goes out.

    def _connect_due(self) -> None:
        now = time.monotonic()
        for (name, port), when in list(self._next.items()):
            if when <= now:
                del self._next[name, port]
                self._connect(name, port)

    def _connect(self, name: str, port: int) -> None:
        peer = self.peers[name]
        begin = time.monotonic()
        try:
            family, _, _, _, place = socket.getaddrinfo(
                peer.address, port, type=socket.SOCK_STREAM
            )[0]
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(0)
            code = sock.connect_ex(place)
        except OSError as problem:
            self._failed(name, port, str(problem))
            return
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._failed(name, port, os.strerror(code))
            return
        attempt = _Attempt(self, name, port, sock, begin)
        self._selector.register(sock, selectors.EVENT_WRITE, attempt.connected)
        self._next[name, port] = begin + CONNECT_SECONDS
        peer.reached.setdefault(port, "no answer")

    def _failed(self, name: str, port: int, why: str) -> None:
        self.peers[name].reached[port] = why
        self._next[name, port] = time.monotonic() + RETRY_SECONDS

    def drop(self, sock: socket.socket) -> None:
        """Close a connection."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)
        sock.close()

    def reached(self, name: str, port: int, offset: float, bound: float) -> None:
        """Take that a peer answered: it is there, and its probe files are."""
        peer = self.peers[name]
        self._next.pop((name, port), None)
        peer.reached[port] = ""
        if peer.offset is None or bound < peer.offset[1]:
            peer.offset = (round(offset, 6), round(bound, 6))
        self._look(name)
        self._there(peer)

    def _look(self, name: str) -> None:
        """See which folders are a peer's too, once."""
        peer = self.peers[name]
        if peer.looked:
            return
        peer.looked = True
        peer.shared = {
            path: self._probes.sees(path, name) for path in self._probes.made if path != self._root
        }
        peer.sees_root = self._probes.sees(peer.root, name)


class _Attempt:
    """One connection to a port of a peer."""

    def __init__(
        self, meeting: Meeting, name: str, port: int, sock: socket.socket, begin: float
    ) -> None:
        self._meeting, self._name, self._port = meeting, name, port
        self._sock, self._begin, self._sent = sock, begin, 0.0

    def connected(self) -> None:
        """The connection stands, or was refused."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._meeting.drop(self._sock)
            self._meeting._failed(self._name, self._port, os.strerror(code))  # noqa: SLF001 one class in two
            return
        self._sent = time.time()
        try:
            self._sock.sendall(self._meeting._greeting())  # noqa: SLF001 as above
        except OSError as problem:
            self._meeting.drop(self._sock)
            self._meeting._failed(self._name, self._port, str(problem))  # noqa: SLF001 as above
            return
        self._meeting._selector.modify(self._sock, selectors.EVENT_READ, self.answered)  # noqa: SLF001

    def answered(self) -> None:
        """The peer says who it is and what time it is."""
        word, now = self._meeting._word(self._sock), time.time()  # noqa: SLF001 as above
        self._meeting.drop(self._sock)
        if word is None or word.get("node") != self._name:
            self._meeting._failed(self._name, self._port, "another program answers")  # noqa: SLF001
            return
        offset = float(word["time"]) - (self._sent + now) / 2
        self._meeting.reached(self._name, self._port, offset, (now - self._sent) / 2)
