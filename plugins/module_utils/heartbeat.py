# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Fate sharing: the supervisors of one job watch each other without the controller.

A star over TCP. The first peer's supervisor is the hub and listens on its own address;
the others connect to it. Every second each end of a connection says that it lives.

- A node whose job failed or was stopped says so; the hub tells everyone, all stop.
- A node that falls silent, or whose connection closes without a last word and does not
  come back within `CONFIRM_SECONDS`, counts as failed: reason `peer_silent`.
- A node that has succeeded says so and leaves; its leaving is no failure.
- The hub stays until every other node has said its last word or is gone, since it
  relays, even when its own job has long succeeded. A hub that is told to leave earlier
  says `succeeded`, and the others go on alone.
- Last words reach nodes that start late: whoever has failed waits for those that have
  not joined yet until the join timeout.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from .job_state import Kind, Reason, State
from .wire import ClosedError, Message, RejectedError, Wire

BEAT_SECONDS = 1.0
CONFIRM_SECONDS = 2.0
_TICK_SECONDS = 0.2
_CONNECT_SECONDS = 0.5
_GREETING_SECONDS = 5.0
_LAST_WORD_SECONDS = 5.0
_MAX_STRANGERS = 64
_MAX_NOTES = 20


class Peer(NamedTuple):
    """Where a node's supervisor is met."""

    node: str
    host: str
    port: int


class Settings(NamedTuple):
    """What the supervisors of one job agree on; times in seconds."""

    node: str
    peers: list[Peer]
    job: str
    token: str
    heartbeat_timeout: float
    join_timeout: float


class Member:
    """What this supervisor knows of another one."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.wire: Wire | None = None
        self.joined = False
        self.ended = False  # it said its last word
        self.gone = False  # it vanished without one
        self.told = False  # it was sent ours on the present wire
        self.receipt = False  # it confirmed ours
        self.last_seen = 0.0
        self.lost_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether anything is still expected of it."""
        return not (self.ended or self.gone)


class Fate(threading.Thread):
    """Watches the other supervisors of the job in a thread of its own.

    A thread, because the supervisor's main loop reads /proc and writes to disks, and
    both can block for longer than a heartbeat may be late.

    Args:
        settings: Who takes part.
        wake: Called from the thread when there is a verdict.

    Raises:
        OSError: This node is the hub and cannot listen on its address.
    """

    def __init__(self, settings: Settings, wake: Callable[[], None]) -> None:
        super().__init__(name="fate", daemon=True)
        self._settings = settings
        self._wake = wake
        hub = settings.peers[0]
        self._is_hub = hub.node == settings.node
        others = [peer.node for peer in settings.peers if peer.node != settings.node]
        names = others if self._is_hub else [hub.node]
        self._members = {name: Member(name) for name in names}
        self._hub = hub
        self._strangers: dict[Wire, float] = {}
        self._listener = self._listen() if self._is_hub else None
        self._mutex = threading.Lock()
        self._verdict: Reason | None = None
        self._word: Message | None = None
        self._word_at = 0.0
        self._leaving = False
        self._settled = threading.Event()
        self._began = time.monotonic()
        self._last_beat = self._last_connect = 0.0
        self.notes: list[str] = []

    # What the supervisor's main loop calls.

    def verdict(self) -> Reason | None:
        """Return why this node's job has to stop, or None."""
        with self._mutex:
            return self._verdict

    def joined(self) -> list[str]:
        """Return the nodes that have been heard of: all from the hub, the hub from others."""
        return sorted(member.node for member in self._members.values() if member.joined)

    def announce(self, state: State, reason: Reason | None) -> None:
        """Say this node's last word; only the first one counts."""
        with self._mutex:
            if self._word is None:
                self._word = {"type": "ended", "node": self._settings.node}
                self._word.update(state=state.value, reason=reason)
                self._word_at = time.monotonic()

    def leave(self) -> None:
        """Leave the others to themselves: a hub that has succeeded relays no more."""
        self._leaving = True

    def wait_settled(self, seconds: float) -> bool:
        """Wait until every other node knows this one's last word and needs no relay."""
        return self._settled.wait(seconds)

    # The thread.

    def run(self) -> None:
        """Watch until nothing is expected of anybody."""
        try:
            while not self._done():
                self._turn()
        except Exception:  # noqa: BLE001 (a dead watch must end the job, not go unnoticed)
            traceback.print_exc(file=sys.stderr)
            detail = f"the watch of node {self._settings.node} broke; see supervisor.log"
            self._judge(Kind.PEER_SILENT, self._settings.node, detail)
        finally:
            self._settled.set()
            for wire in self._wires():
                wire.close()
            if self._listener is not None:
                self._listener.close()

    def _turn(self) -> None:
        before = time.monotonic()
        if not self._is_hub:
            self._connect()
        with selectors.DefaultSelector() as selector:
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ)
            for wire in self._wires():
                selector.register(wire, selectors.EVENT_READ, wire)
            for key, _ in selector.select(_TICK_SECONDS):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
        late = time.monotonic() - before - _TICK_SECONDS - _CONNECT_SECONDS
        if late > BEAT_SECONDS:  # this machine slept, not the others
            for member in self._members.values():
                member.last_seen += late
        self._watch()
        self._speak()

    def _done(self) -> bool:
        """Tell whether nobody is left to hear from and this node's last word is said."""
        if self._word is None:
            return False
        now = time.monotonic()
        joining = now - self._began < self._settings.join_timeout
        told_long_ago = now - self._word_at > _LAST_WORD_SECONDS
        relaying = self._is_hub and self._word["state"] == State.SUCCEEDED.value
        return all(
            member.receipt
            or (member.wire is None and not member.open)
            or (not member.joined and not joining)
            or (member.joined and told_long_ago and not relaying)
            or (self._leaving and (member.told or member.wire is None))
            for member in self._members.values()
        )

    def _listen(self) -> socket.socket:
        family = socket.getaddrinfo(self._hub.host, self._hub.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((self._hub.host, self._hub.port), family=family)
        listener.settimeout(0)
        return listener

    def _wires(self) -> list[Wire]:
        joined = [member.wire for member in self._members.values() if member.wire is not None]
        return [*joined, *self._strangers]

    def _wire(self, sock: socket.socket) -> Wire:
        return Wire(sock, self._settings.token, self._settings.job, hub=self._is_hub)

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._strangers) >= _MAX_STRANGERS:
            sock.close()
            return
        self._strangers[self._wire(sock)] = time.monotonic()

    def _connect(self) -> None:
        member = self._members[self._hub.node]
        now = time.monotonic()
        if (
            member.wire is not None
            or not member.open
            or now - self._last_connect < _CONNECT_SECONDS
        ):
            return
        self._last_connect = now
        try:
            sock = socket.create_connection((self._hub.host, self._hub.port), _CONNECT_SECONDS)
        except OSError:
            return
        if sock.getsockname() == sock.getpeername():  # TCP met itself: nobody listens there
            sock.close()
            return
        member.wire = self._wire(sock)
        member.wire.node = member.node
        member.last_seen = now
        member.told = False
        member.wire.send({"type": "join", "node": self._settings.node})

    def _read(self, wire: Wire) -> None:
        try:
            for message in wire.receive():
                self._hear(wire, message)
        except ClosedError:
            self._drop(wire)
        except RejectedError as error:
            self._note(f"dropped a connection of {wire.node or 'a stranger'}: {error}")
            self._drop(wire)

    def _hear(self, wire: Wire, message: Message) -> None:
        if wire.node is None:
            self._greet(wire, message)
        member = self._members[str(wire.node)]
        member.last_seen = time.monotonic()
        member.lost_at = None
        member.joined = True
        if message.get("type") == "receipt":
            member.receipt = True
        elif message.get("type") == "ended":
            self._hear_end(member, message)

    def _greet(self, wire: Wire, message: Message) -> None:
        node = message.get("node")
        if message.get("type") != "join" or node not in self._members:
            raise RejectedError(f"node {node!r} is none of this job's nodes")
        self._strangers.pop(wire, None)
        member = self._members[node]
        if member.wire is not None:
            member.wire.close()
        wire.node, member.wire, member.told = node, wire, False

    def _hear_end(self, member: Member, message: Message) -> None:
        node = str(message["node"])
        member.ended = True
        if self._is_hub and member.wire is not None:
            member.wire.send({"type": "receipt"})
        if message["state"] == State.SUCCEEDED.value:
            return
        reason = message.get("reason") or {}
        known = reason.get("kind")
        if known in (Kind.PEER_SILENT.value, Kind.JOIN_TIMEOUT.value):
            self._judge(Kind(known), str(reason.get("node")), str(reason.get("detail")))
        elif message["state"] == State.STOPPED.value:
            self._judge(Kind.STOPPED, node, f"node {node} was stopped")
        else:
            if known == Kind.PEER_FAILED.value:  # it passes on what it heard from the hub
                node = str(reason.get("node"))
            hung = Kind.HUNG.value in (known, reason.get("cause"))
            detail = f"node {node} failed: {reason.get('detail')}"
            self._judge(Kind.PEER_FAILED, node, detail, cause=Kind.HUNG if hung else None)

    def _drop(self, wire: Wire) -> None:
        self._strangers.pop(wire, None)
        wire.close()
        for member in self._members.values():
            if member.wire is wire:
                member.wire = None
                member.lost_at = time.monotonic()

    def _watch(self) -> None:
        now = time.monotonic()
        for wire, since in list(self._strangers.items()):
            if now - since > _GREETING_SECONDS:
                self._drop(wire)
        limit = self._settings.heartbeat_timeout
        for member in self._members.values():
            if not member.open:
                continue
            if not member.joined:
                if now - self._began > self._settings.join_timeout:
                    member.gone = True
                    self._judge(Kind.JOIN_TIMEOUT, member.node, self._absence(member.node))
            elif member.lost_at is not None and now - member.lost_at > CONFIRM_SECONDS:
                detail = f"node {member.node} closed its connection without a last word"
                member.gone = True
                self._judge(Kind.PEER_SILENT, member.node, detail)
            elif now - member.last_seen > limit:
                detail = f"node {member.node} has been silent for more than {limit:g} s"
                member.gone = True
                self._judge(Kind.PEER_SILENT, member.node, detail)

    def _absence(self, node: str) -> str:
        return (
            f"node {node} did not join node {self._settings.node} at "
            f"{self._hub.host}:{self._hub.port} within {self._settings.join_timeout:g} s"
        )

    def _judge(self, kind: Kind, node: str, detail: str, *, cause: Kind | None = None) -> None:
        """Keep the first failure of the job: this node's own or another's."""
        with self._mutex:
            failed = self._word is not None and self._word["state"] != State.SUCCEEDED.value
            if failed or self._verdict is not None:
                return
            reason = {"kind": kind.value, "detail": detail, "node": node}
            if cause is not None:
                reason["cause"] = cause.value
            self._verdict = {**reason, "at": round(time.time(), 3)}
        self._wake()

    def _as_word(self, reason: Reason) -> Message:
        """Put a verdict into words for others: as said by the node that it is about."""
        state = State.STOPPED if reason["kind"] == Kind.STOPPED.value else State.FAILED
        detail = str(reason["detail"]).replace(f"node {reason['node']} failed: ", "", 1)
        said: dict[str, Any] = {**reason, "detail": detail}
        return {"type": "ended", "node": reason["node"], "state": state.value, "reason": said}

    def _news(self) -> Message | None:
        """Return what the others have to hear, if anything."""
        with self._mutex:
            word, verdict = self._word, self._verdict
        if not self._is_hub:
            return word
        if verdict is not None:
            return self._as_word(verdict)
        if word is not None and (self._leaving or word["state"] != State.SUCCEEDED.value):
            return word
        return None

    def _speak(self) -> None:
        now = time.monotonic()
        beat = now - self._last_beat >= BEAT_SECONDS
        if beat:
            self._last_beat = now
        news = self._news()
        for member in self._members.values():
            wire = member.wire
            if wire is None:
                continue
            if beat:
                wire.send({"type": "beat"})
            if news is not None and not member.told:
                wire.send(news)
                member.told = True
        for wire in self._wires():
            try:
                wire.flush()
            except ClosedError:
                self._drop(wire)
        for member in self._members.values():
            if self._is_hub and member.ended and member.wire is not None:
                member.wire.close()
                member.wire = None

    def _note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (stderr is supervisor.log)
        if len(self.notes) < _MAX_NOTES:
            self.notes.append(text)
