"""How nodes agree to begin a round: each listens, and each looks for the others of its group.

No node is in charge of all, since it could be the one that is cut off. The first of a group asks
the others whether they are there, they ask it what it has decided; a round begins only where every
such connection was made both ways. A node that waits for one that is still busy hears from it
every second, so that late is told from unreachable.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

ALIVE_SECONDS = 1.0
SILENT_SECONDS = 6.0
CONNECT_SECONDS = 3.0
TRIES = 2
PAUSE = 0.2


class Unmet(Exception):  # noqa: N818 said of a round, not of a fault
    """A round cannot begin; the sentence says why."""


class Place(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


class Meeting:
    """One node's end of all agreements.

    Args:
        name: This node.
        places: Node -> where it listens, this one's too.
        token: What all of this check know, and nobody else.
        grace: Seconds from now that others may take to start.
    """

    def __init__(self, name: str, places: dict[str, Place], token: str, grace: float) -> None:
        self._name, self._places, self._token = name, places, token
        self._until = time.monotonic() + grace
        self._change = threading.Condition()
        self._round = -1
        self._gone: dict[int, str] = {}
        self._decided: dict[int, dict[str, Any]] = {}
        host, port = places[name]
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._listener = socket.create_server((host, port), family=family, backlog=256)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def lead(self, number: int, others: list[str], port: int) -> None:
        """Begin a round as the first of its group, whose ranks meet at ``port``.

        Raises:
            Unmet: somebody of the group is not there.
        """
        self._set(number)
        problems: dict[str, str] = {}

        def ask(other: str) -> None:
            try:
                answer = self._ask(other, "here", number)
                if "why" in answer:
                    problems[other] = answer["why"]
            except (OSError, ValueError) as error:
                problems[other] = self._unreachable(other, error)

        threads = [threading.Thread(target=ask, args=(other,), daemon=True) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        decided = {"why": "; ".join(problems.values())} if problems else {"port": port}
        with self._change:
            self._decided[number] = decided
            self._change.notify_all()
        if problems:
            raise Unmet(decided["why"])

    def follow(self, number: int, first: str) -> int:
        """Begin a round that ``first`` leads; the port its ranks meet at.

        Raises:
            Unmet: it is not there, or somebody else of the group is not.
        """
        try:
            with self._asked(first, "join", number) as answers:
                next(answers)  # it hears us, so say to it that we are here
                self._set(number)
                answer = next((item for item in answers if item), None)
        except (OSError, ValueError, StopIteration) as error:
            why = self._unreachable(first, error)
            self.give_up(number, why)
            raise Unmet(why) from None
        if answer is None:
            raise Unmet(f"{first} ended")
        if "why" in answer:
            raise Unmet(answer["why"])
        return int(answer["port"])

    def give_up(self, number: int, why: str) -> None:
        """Have others know that this node takes no part in a round."""
        with self._change:
            self._gone[number] = why
            self._change.notify_all()

    def _set(self, number: int) -> None:
        with self._change:
            self._round = number
            self._change.notify_all()

    def _unreachable(self, other: str, error: object) -> str:
        host, port = self._places[other]
        return f"{self._name} reached {other} not at {host} port {port}: {error or 'silent'}"

    # Asking.

    def _ask(self, other: str, what: str, number: int) -> dict[str, Any]:
        with self._asked(other, what, number) as answers:
            answer = next((item for item in answers if item), None)
        return {"why": f"{other} ended"} if answer is None else answer

    @contextlib.contextmanager
    def _asked(self, other: str, what: str, number: int) -> Iterator[Iterator[dict[str, Any]]]:
        with self._connected(self._places[other]) as connection:
            connection.settimeout(SILENT_SECONDS)
            file = connection.makefile("rw", encoding="utf-8")
            question = {"token": self._token, "what": what, "round": number}
            file.write(json.dumps(question) + "\n")
            file.flush()
            yield (json.loads(line) for line in file)

    def _connected(self, place: Place) -> socket.socket:
        tries = 0
        while True:
            tries += 1
            try:
                return socket.create_connection(place, CONNECT_SECONDS)
            except OSError:
                if tries >= TRIES and time.monotonic() > self._until:
                    raise
            time.sleep(PAUSE)

    # Answering.

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            connection.settimeout(SILENT_SECONDS)
            file = connection.makefile("rw", encoding="utf-8")
            asked = json.loads(file.readline())
            if asked.get("token") != self._token:
                return
            find = self._here if asked["what"] == "here" else self._decision
            while True:
                with self._change:
                    answer = find(int(asked["round"]))
                    if answer is None:
                        self._change.wait(ALIVE_SECONDS)
                file.write(json.dumps(answer or {}) + "\n")
                file.flush()
                if answer is not None:
                    return

    def _here(self, number: int) -> dict[str, Any] | None:
        if number in self._gone:
            return {"why": self._gone[number]}
        if self._round > number:
            return {"why": f"{self._name} has gone on"}
        return {"here": True} if self._round == number else None

    def _decision(self, number: int) -> dict[str, Any] | None:
        if number in self._gone:
            return {"why": self._gone[number]}
        return self._decided.get(number)
