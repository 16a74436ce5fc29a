"""Ports are free when they are given, and nodes on one machine never get the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_utils import ports

HERE = range(22400, 22440)


def test_slices_of_slots_are_disjoint() -> None:
    where = ports.Range(20000, 29999, 100)
    slices = [set(where.slice(slot)) for slot in range(100)]
    assert sum(map(len, slices)) == len(set().union(*slices)) == 10000
    assert all(20000 <= port <= 29999 for found in slices for port in found)


def test_a_used_port_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 22400)):
        assert ports.lease(2, "127.0.0.1", HERE) == [22401, 22402]


def test_a_port_used_on_another_address_is_not_given() -> None:
    with socket.create_server(("127.0.0.2", 22400)):
        assert ports.lease(1, "127.0.0.1", HERE) == [22401]


def test_the_key_moves_the_beginning() -> None:
    assert len({ports.lease(1, "127.0.0.1", HERE, key=f"run-{n}")[0] for n in range(8)}) > 1


def test_too_few_free_ports_are_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 22400)),
        pytest.raises(ports.PortError, match=r"expected 2 free ports .* found 1; see .*ss -ltn"),
    ):
        ports.lease(2, "127.0.0.1", range(22400, 22402))


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(ports.PortError, match="expected an address of this node"):
        ports.lease(1, "203.0.113.1", HERE)


@pytest.mark.parametrize(
    ("where", "slot"), [((0, 9, 1), 0), ((9, 8, 1), 0), ((1, 70000, 1), 0), ((20000, 29999, 4), 4)]
)
def test_an_impossible_range_is_an_error(where: tuple[int, int, int], slot: int) -> None:
    with pytest.raises(ports.PortError, match="expected"):
        ports.Range(*where).slice(slot)


def test_the_module_answers(collections: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    params = {"count": 3, "start": 22000, "end": 22999, "slot": 3, "slots": 10}
    given = {"ANSIBLE_MODULE_ARGS": {**params, "_ansible_remote_tmp": str(tmp_path)}}
    done = subprocess.run(
        [sys.executable, str(root / "plugins" / "modules" / "lease.py")],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": str(collections)},
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout)
    assert told["changed"] is False
    assert len(set(told["ports"])) == 3
    assert all(22300 <= port < 22400 for port in told["ports"])
