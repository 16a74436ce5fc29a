"""Supervisors of one job share one fate, with nobody else watching."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fleet_utils import wire

if TYPE_CHECKING:
    from conftest import Node

TOKEN = "a-secret-of-this-run"  # noqa: S105 (a test's)
SLEEP = ("sleep", "300")


class Fleet:
    """Nodes with one job; the first is the hub."""

    def __init__(self, make_node: Callable[[str], Node], port: int, count: int) -> None:
        self.nodes = [make_node(f"n{rank + 1}") for rank in range(count)]
        peers = [{"node": node.name, "host": "127.0.0.1", "port": port} for node in self.nodes]
        self.params: dict[str, Any] = {
            "peers": peers,
            "token": TOKEN,
            "stop_grace": 1,
            "heartbeat_timeout": 4,
            "join_timeout": 30,
        }

    def start(self, *commands: tuple[str, ...], join: bool = True) -> list[dict[str, Any]]:
        """Start a command a node, all at once; wait until all have joined."""
        pairs = list(zip(self.nodes, commands, strict=True))
        executions = [node.execute(**node.job(*argv, **self.params)) for node, argv in pairs]
        told = [execution.answer() for execution in executions]
        assert not [answer["msg"] for answer in told if answer.get("failed")]
        if not join:
            return told
        hub, *others = self.nodes
        hub.eventually(lambda: len(hub.read()["joined"]) == len(others))
        hub.eventually(lambda: all(node.read()["joined"] for node in others))
        return told


def talk(end: wire.Wire, seconds: float = 5) -> None:
    """Say what is queued and listen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        end.flush()
        end.receive()
        time.sleep(0.05)


@pytest.fixture
def fleet(make_node: Callable[[str], Node], port: int) -> Callable[[int], Fleet]:
    return lambda count: Fleet(make_node, port, count)


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_rank_stops_the_other_nodes_which_say_why(
    fleet: Callable[[int], Fleet], victim: int
) -> None:
    """Whether the hub's rank or another's: all stop within 10 s, each names the first."""
    three = fleet(3)
    told = three.start(SLEEP, SLEEP, SLEEP)
    os.kill(told[victim]["pid"], signal.SIGKILL)
    began = time.monotonic()
    ends = [node.end() for node in three.nodes]
    assert time.monotonic() - began < 10
    assert [end["state"] for end in ends] == ["failed"] * 3
    assert ends.pop(victim)["reason"]["kind"] == "signal"
    name = f"n{victim + 1}"
    for end in ends:
        assert (end["reason"]["kind"], end["reason"]["node"]) == ("peer_failed", name)
        assert end["reason"]["detail"] == f"node {name} failed: was killed by signal 9 (SIGKILL)"
    assert not three.nodes[0].alive(*(answer["pid"] for answer in told))


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_supervisor_stops_the_other_nodes(
    fleet: Callable[[int], Fleet], victim: int
) -> None:
    three = fleet(3)
    told = three.start(SLEEP, SLEEP, SLEEP)
    os.kill(told[victim]["supervisor_pid"], signal.SIGKILL)
    began = time.monotonic()
    others = [node for node in three.nodes if node is not three.nodes[victim]]
    ends = [node.end() for node in others]
    assert time.monotonic() - began < 10
    for end in ends:
        assert end["reason"]["kind"] == "peer_silent"
        assert end["reason"]["node"] == f"n{victim + 1}"
        assert "closed its connection without a last word" in end["reason"]["detail"]
    assert three.nodes[victim].read()["state"] == "lost"


@pytest.mark.slow
def test_a_silent_supervisor_stops_both_nodes(fleet: Callable[[int], Fleet]) -> None:
    two = fleet(2)
    two.params["heartbeat_timeout"] = 2
    told = two.start(SLEEP, SLEEP)
    os.kill(told[1]["supervisor_pid"], signal.SIGSTOP)
    try:
        end = two.nodes[0].end()
    finally:
        os.kill(told[1]["supervisor_pid"], signal.SIGCONT)
    assert end["reason"]["kind"] == "peer_silent"
    assert end["reason"]["detail"] == "node n2 has been silent for more than 2 s"
    assert two.nodes[1].end()["reason"]["kind"] == "peer_silent"


def test_leaving_after_success_is_no_failure_and_the_hub_still_relays(
    fleet: Callable[[int], Fleet],
) -> None:
    """The hub and n2 succeed first; n3 and n4 go on until n4 fails, of which n3 hears."""
    four = fleet(4)
    four.start(("true",), ("true",), SLEEP, ("sh", "-c", "sleep 3; exit 9"), join=False)
    first, second, third, fourth = four.nodes
    assert first.end()["state"] == second.end()["state"] == "succeeded"
    assert third.read()["state"] == "running"
    assert fourth.end()["exit_code"] == 9
    end = third.end()
    assert end["reason"]["kind"] == "peer_failed"
    assert end["reason"]["detail"] == "node n4 failed: exited with code 9"
    assert first.read()["state"] == "succeeded"


@pytest.mark.slow
def test_all_succeed_and_no_supervisor_stays(fleet: Callable[[int], Fleet]) -> None:
    two = fleet(2)
    told = two.start(("sleep", "1"), ("sleep", "2"), join=False)
    assert [node.end()["state"] for node in two.nodes] == ["succeeded", "succeeded"]
    pids = [answer["supervisor_pid"] for answer in told]
    two.nodes[0].eventually(lambda: not two.nodes[0].alive(*pids))


def test_stopping_one_node_stops_all(fleet: Callable[[int], Fleet]) -> None:
    two = fleet(2)
    two.start(SLEEP, SLEEP)
    assert two.nodes[1].module(state="stopped")["state"] == "stopped"
    end = two.nodes[0].end()
    assert (end["state"], end["reason"]["kind"]) == ("stopped", "stopped")
    assert end["reason"]["detail"] == "node n2 was stopped"


def test_a_node_that_never_joins_is_named(fleet: Callable[[int], Fleet]) -> None:
    two = fleet(2)
    two.params["join_timeout"] = 2
    two.nodes[0].start(*SLEEP, **two.params)
    end = two.nodes[0].end()
    assert (end["reason"]["kind"], end["reason"]["node"]) == ("join_timeout", "n2")
    assert "node n2 did not join node n1 at 127.0.0.1:" in end["reason"]["detail"]


@pytest.mark.parametrize("early", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_node_that_starts_late_hears_of_the_failure(
    fleet: Callable[[int], Fleet], early: int
) -> None:
    """Whoever failed waits for the late one; started anew, it gives up waiting."""
    two = fleet(2)
    first, late = two.nodes[early], two.nodes[1 - early]
    first.start("sh", "-c", "exit 5", **two.params)
    assert first.end()["exit_code"] == 5
    late.start(*SLEEP, **two.params)
    end = late.end()
    assert end["reason"]["kind"] == "peer_failed"
    assert end["reason"]["detail"] == f"node {first.name} failed: exited with code 5"


@pytest.mark.slow
def test_a_failed_node_that_still_waits_can_be_started_anew(
    fleet: Callable[[int], Fleet],
) -> None:
    two = fleet(2)
    two.nodes[0].start("false", **two.params)
    two.nodes[0].end()
    told = two.nodes[0].start(*SLEEP, **two.params)
    assert (told["changed"], told["state"], told["attempt"]) == (True, "running", 2)


def test_a_stranger_is_dropped_and_noted(fleet: Callable[[int], Fleet], port: int) -> None:
    two = fleet(2)
    two.start(SLEEP, SLEEP)
    stranger = wire.Wire(
        socket.create_connection(("127.0.0.1", port)), "wrong", "r1/train", hub=False
    )
    stranger.send({"type": "join", "node": "n2"})
    stranger.send({"type": "ended", "node": "n2", "state": "failed", "reason": {}})
    with pytest.raises(wire.ClosedError):
        talk(stranger)
    stranger.close()
    with socket.create_connection(("127.0.0.1", port)) as noise:
        noise.sendall(b"GET / HTTP/1.1\r\n\r\n")
        noise.settimeout(10)
        while noise.recv(1000):
            pass
    two.nodes[0].eventually(lambda: len(two.nodes[0].read()["notes"]) == 2)
    told = two.nodes[0].read()
    assert told["state"] == two.nodes[1].read()["state"] == "running"
    assert "a message carries a wrong HMAC" in told["notes"][0]
    assert "a line is not of this protocol" in told["notes"][1]


def test_a_hub_that_cannot_listen_says_so(fleet: Callable[[int], Fleet], port: int) -> None:
    two = fleet(2)
    with socket.create_server(("127.0.0.1", port)):
        told = two.nodes[0].module(**two.nodes[0].job(*SLEEP, **two.params))
    assert f"cannot listen for the job's other nodes on 127.0.0.1:{port}" in told["msg"]


def test_a_message_replayed_or_reflected_does_not_fit() -> None:
    """Each line fits one place of one conversation in one direction only."""
    listener = socket.create_server(("127.0.0.1", 0))
    spoke_socket = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    hub = wire.Wire(accepted, TOKEN, "r1/train", hub=True)
    spoke = wire.Wire(spoke_socket, TOKEN, "r1/train", hub=False)
    for end in (hub, spoke):
        end.flush()
    time.sleep(0.05)
    assert hub.receive() == spoke.receive() == []
    spoke.send({"type": "beat"})
    line = spoke._outbox
    spoke.flush()
    time.sleep(0.05)
    assert hub.receive() == [{"type": "beat"}]
    for victim, sender in ((hub, spoke), (spoke, hub)):
        sender._outbox = line
        sender.flush()
        time.sleep(0.05)
        with pytest.raises(wire.RejectedError, match="wrong HMAC"):
            victim.receive()
    for closing in (hub, spoke, listener):
        closing.close()
