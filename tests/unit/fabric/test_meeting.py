"""Nodes agree to begin a round, in threads of this process; whoever is missing is named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pyswiftops.fabric.node import meeting
from pyswiftops.fabric.node.meeting import Meeting, Place, Unmet


def places(*names: str) -> dict[str, Place]:
    found, held = {}, []
    for name in names:
        probe = socket.create_server(("127.0.0.1", 0))
        held.append(probe)
        found[name] = Place("127.0.0.1", probe.getsockname()[1])
    for probe in held:
        probe.close()
    return found


@contextmanager
def meetings(where: dict[str, Place], *names: str, grace: float = 0.5) -> Iterator[list[Meeting]]:
    made = [Meeting(name, where, "token", grace) for name in names]
    try:
        yield made
    finally:
        for item in made:
            item.close()


def together(*work: Callable[[], object]) -> list[object]:
    """What each returned or raised."""
    found: list[object] = [None] * len(work)

    def do(index: int) -> None:
        try:
            found[index] = work[index]()
        except Unmet as problem:
            found[index] = problem

    threads = [threading.Thread(target=do, args=(index,)) for index in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_all_of_a_group_begin_at_the_port_that_its_first_names() -> None:
    where = places("a", "b", "c")
    with meetings(where, "a", "b", "c") as (a, b, c):
        assert together(
            lambda: a.lead(0, ["b", "c"], 7), lambda: b.follow(0, "a"), lambda: c.follow(0, "a")
        ) == [None, 7, 7]


def test_one_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "SILENT_SECONDS", 1.5)
    where = places("a", "b")

    def late(b: Meeting) -> int:
        time.sleep(3)
        return b.follow(0, "a")

    with meetings(where, "a", "b") as (a, b):
        assert together(lambda: a.lead(0, ["b"], 7), lambda: late(b)) == [None, 7]


def test_one_that_is_not_there_is_named_to_the_others() -> None:
    where = places("a", "b", "c")
    with meetings(where, "a", "b") as (a, b):
        begin = time.monotonic()
        told = together(lambda: a.lead(0, ["b", "c"], 7), lambda: b.follow(0, "a"))
        assert time.monotonic() - begin < 10
    for problem in told:
        assert isinstance(problem, Unmet)
        assert f"a reached c not at 127.0.0.1 port {where['c'].port}" in str(problem)


def test_one_that_cannot_reach_the_first_says_so_and_both_go_on() -> None:
    where = places("a", "b", "elsewhere")
    astray = {**where, "a": where["elsewhere"]}
    with meetings(where, "a") as (a,), meetings(astray, "b") as (b,):
        told = together(lambda: a.lead(0, ["b"], 7), lambda: b.follow(0, "a"))
        assert all("b reached a not" in str(problem) for problem in told)
        assert all(isinstance(problem, Unmet) for problem in told)


def test_a_stranger_learns_nothing() -> None:
    where = places("a", "b")
    with meetings(where, "a", "b") as (_, b):
        b.give_up(0, "a secret")
        with socket.create_connection(where["b"], 5) as connection:
            connection.sendall(b'{"token": "guessed", "what": "here", "round": 0}\n')
            assert connection.recv(100) == b""
