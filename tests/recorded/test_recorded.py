"""Outputs of real machines, and what two nodes of them are to train over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops.network.decide import Decision, decide
from pyswiftops.network.facts import NodeNetwork
from tests.recorded import reading

HERE = Path(__file__).parent
MACHINES = yaml.safe_load((HERE / "machines.yml").read_text(encoding="utf-8"))
FLEETS = yaml.safe_load((HERE / "fleets.yml").read_text(encoding="utf-8"))
COSMETIC = {"speed_differs", "roce_without_address", "nic_far_from_gpu", "mtu_differs"}


def next_to(address: str) -> str:
    """Another address of the same network."""
    head, dot, last = address.rpartition("." if "." in address else ":")
    return f"{head}{dot}{int(last) + 1}"


def two(machine: dict[str, Any]) -> Decision:
    """Two machines of a kind."""
    interface, mine = machine["training"]["interface"], machine["training"]["address"]
    theirs, told = next_to(mine), reading.facts(machine)
    facts = {
        "node-1": reading.with_route(told, mine, theirs, interface),
        "node-2": reading.with_route(reading.beside(told, mine, theirs), theirs, mine, interface),
    }
    addresses = {"node-1": mine, "node-2": theirs}
    return decide(
        [NodeNetwork.of(name, {"swiftops_address": addresses[name]}, facts[name]) for name in facts]
    )


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["machine"])
def test_two_machines_of_a_kind(machine: dict[str, Any]) -> None:
    decision, expected = two(machine), machine["expected"]
    assert decision.fabric == expected["fabric"]
    environment = decision.environment("node-1")
    assert environment == environment | expected["environment"]
    assert {mark.code for mark in decision.remarks} == set(expected["remarks"])
    reasons = " ".join(value.why for value in decision.nodes["node-1"].values())
    for words in expected.get("said", []):
        assert words in reasons
    assert all(value.why for value in decision.nodes["node-1"].values())


def test_there_are_a_dozen_machines_and_each_has_a_source() -> None:
    sources = {machine["source"] for machine in MACHINES}
    assert len(sources) >= 12
    assert all(source.startswith("https://github.com/") for source in sources)


def test_machines_without_rdma_get_no_rdma_settings() -> None:
    for machine in MACHINES:
        if machine["expected"]["fabric"] == "none":
            assert not {"NCCL_IB_HCA", "NCCL_IB_GID_INDEX", "NCCL_NET"} & set(
                two(machine).environment("node-1")
            )


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet["fleet"])
def test_different_machines_in_one_fleet(fleet: dict[str, Any]) -> None:
    chosen = [
        next(item for item in MACHINES if item["machine"].startswith(begin))
        for begin in fleet["nodes"]
    ]
    nodes = []
    for rank, machine in enumerate(chosen):
        mine, other = machine["training"], chosen[1 - rank]["training"]
        told = reading.with_route(
            reading.facts(machine), mine["address"], other["address"], mine["interface"]
        )
        variables = {"swiftops_address": mine["address"]}
        nodes.append(NodeNetwork.of(f"node-{rank + 1}", variables, told))
    decision = decide(nodes)
    assert decision.fabric == fleet["fabric"]
    for name, expected in fleet["environment"].items():
        found = decision.environment(name)
        assert found == found | expected
    codes = {mark.code for mark in decision.remarks}
    assert codes - (COSMETIC - set(fleet["remarks"])) == set(fleet["remarks"])
