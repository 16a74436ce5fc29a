"""Ports are free when they are given."""

from __future__ import annotations

import socket

import pytest
from fleet_utils import ports

HERE = range(22400, 22440)


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
