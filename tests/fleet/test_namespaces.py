"""Two nodes in network namespaces: several interfaces, IPv6, and a docker0 that both have alike."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.network.decide import Decision, decide
from pyswiftops.network.facts import NodeNetwork

pytestmark = pytest.mark.fleet

UTILS = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
GATHER = (
    "import json,sys; sys.path.insert(0, sys.argv[1]); import network_facts; "
    "print(json.dumps(network_facts.gather(sys.argv[2:])))"
)
MEET = """
import datetime, os, torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
number = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(number)
print("sum", int(number))
"""
CONTROL, DATA, SIXTH = "10.81.0.{}/24", "10.82.0.{}/24", "fd82::{}/64"
NAMES = ({"control": "eth0", "data": "data0"}, {"control": "eno1", "data": "ens7f0"})


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def spaces() -> Iterator[list[str]]:
    """Two namespaces joined by two cables; neither touches this machine's own network."""
    made = [f"swiftops-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for space in made:
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        for wire, networks in (("control", [CONTROL]), ("data", [DATA, SIXTH])):
            ends = [names[wire] for names in NAMES]
            other = ("peer", "name", ends[1], "netns", made[1])
            ip("-n", made[0], "link", "add", ends[0], "type", "veth", *other)
            for number, (space, end) in enumerate(zip(made, ends, strict=True), 1):
                for network in networks:
                    more = ["nodad"] if ":" in network else []
                    ip("-n", space, "address", "add", network.format(number), "dev", end, *more)
                ip("-n", space, "link", "set", end, "up")
        for space in made:
            ip("-n", space, "link", "add", "docker0", "type", "bridge")
            ip("-n", space, "address", "add", "172.17.0.1/16", "dev", "docker0")
            ip("-n", space, "link", "set", "docker0", "up")
        yield made
    finally:
        for space in made:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


def gathered(space: str, peers: list[str], *, path: str | None = None) -> dict[str, Any]:
    """What a node in a namespace tells."""
    words = ["ip", "netns", "exec", space, "env", f"PATH={path or os.environ['PATH']}"]
    words += [sys.executable, "-c", GATHER, str(UTILS), *peers]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def of(spaces: list[str], peers: list[str], **variables: Any) -> Decision:
    """The decision for two nodes that are known by these addresses."""
    return decide(
        [
            NodeNetwork.of(
                f"node-{number}", {"swiftops_address": peer, **variables}, gathered(space, peers)
            )
            for number, (space, peer) in enumerate(zip(spaces, peers, strict=True), 1)
        ]
    )


def codes(decision: Decision) -> set[str]:
    return {mark.code for mark in decision.remarks}


def meet(spaces: list[str], environments: list[Mapping[str, str]], master: str) -> list[str]:
    """What two processes of torch, one in each namespace, print."""
    running = []
    for rank, (space, environment) in enumerate(zip(spaces, environments, strict=True)):
        more = {"MASTER_ADDR": master, "MASTER_PORT": "29517", "RANK": str(rank), "WORLD_SIZE": "2"}
        words = ["ip", "netns", "exec", space, sys.executable, "-c", MEET]
        running.append(
            subprocess.Popen(
                words,
                env={**os.environ, "OMP_NUM_THREADS": "1", **more, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return [process.communicate(timeout=240)[0] for process in running]


@pytest.mark.parametrize("wire", ["control", "data"])
def test_the_route_to_the_peers_names_the_interface_on_each_node(
    spaces: list[str], wire: str
) -> None:
    network = {"control": CONTROL, "data": DATA}[wire]
    decision = of(spaces, [network.format(number).split("/")[0] for number in (1, 2)])
    for number, names in enumerate(NAMES, 1):
        environment = decision.environment(f"node-{number}")
        assert environment["GLOO_SOCKET_IFNAME"] == names[wire]
        assert environment["NCCL_SOCKET_IFNAME"] == f"={names[wire]}"
        why = decision.nodes[f"node-{number}"]["GLOO_SOCKET_IFNAME"].why
        assert "docker0 (a bridge of containers" in why
    assert codes(decision) == set()


def test_nodes_known_by_ipv6_train_over_ipv6(spaces: list[str]) -> None:
    decision = of(spaces, ["fd82::1", "fd82::2"])
    environment = decision.environment("node-2")
    assert environment["NCCL_SOCKET_FAMILY"] == "AF_INET6"
    assert environment["GLOO_SOCKET_IFNAME"] == "ens7f0"
    assert environment["VLLM_HOST_IP"] == "fd82::2"


def test_a_node_without_iproute2_tells_the_same(spaces: list[str]) -> None:
    peers = ["10.82.0.1", "10.82.0.2", "fd82::2", "10.99.0.9"]
    plain, bare = (gathered(spaces[0], peers, path=path) for path in (None, "/nonexistent"))
    for peer in peers[:3]:
        assert bare["routes"][peer] == plain["routes"][peer]
    assert bare["routes"]["10.99.0.9"]["error"]
    assert plain["routes"]["10.99.0.9"]["error"]
    facts = [{item["name"]: item for item in told["interfaces"]} for told in (plain, bare)]
    assert facts[0] == facts[1]


def test_a_bridge_with_the_nodes_own_port_is_an_interface_like_others(spaces: list[str]) -> None:
    one = spaces[0]
    ip("-n", one, "link", "add", "br0", "type", "bridge")
    ip("-n", one, "address", "flush", "dev", "data0")
    ip("-n", one, "link", "set", "data0", "master", "br0")
    ip("-n", one, "address", "add", DATA.format(1), "dev", "br0")
    ip("-n", one, "link", "set", "br0", "up")
    decision = of(spaces, ["10.82.0.1", "10.82.0.2"])
    assert decision.environment("node-1")["GLOO_SOCKET_IFNAME"] == "br0"
    assert codes(decision) == set()


def test_a_route_into_docker_a_missing_route_and_another_mtu_are_named(spaces: list[str]) -> None:
    assert "interface_of_containers" in codes(of(spaces, ["172.17.0.2", "172.17.0.3"]))
    assert "no_route" in codes(of(spaces, ["10.82.0.1", "10.99.0.9"]))
    ip("-n", spaces[1], "link", "set", "ens7f0", "mtu", "1400")
    assert codes(of(spaces, ["10.82.0.1", "10.82.0.2"])) == {"mtu_differs"}


def test_packets_that_leave_by_another_interface_are_named(spaces: list[str]) -> None:
    ip("-n", spaces[0], "route", "add", "10.81.0.2/32", "dev", "data0", "src", "10.82.0.1")
    decision = of(spaces, ["10.81.0.1", "10.81.0.2"])
    assert "asymmetric_route" in codes(decision)
    [mark] = [mark for mark in decision.remarks if mark.code == "asymmetric_route"]
    assert mark.finding.where == "node-1"


def test_an_interface_that_a_node_lacks_is_refused_and_the_right_one_named(
    spaces: list[str],
) -> None:
    decision = of(spaces, ["10.82.0.1", "10.82.0.2"], swiftops_interface="data0")
    [mark] = [mark for mark in decision.remarks if mark.code == "interface_missing"]
    assert mark.finding.where == "node-2"
    assert "ens7f0" in mark.finding.remedy


@pytest.mark.long
def test_gloo_meets_over_what_was_decided_and_not_over_docker0(spaces: list[str]) -> None:
    decision = of(spaces, ["10.82.0.1", "10.82.0.2"])
    decided = [decision.environment(node) for node in ("node-1", "node-2")]
    assert all("sum 3" in said for said in meet(spaces, decided, "10.82.0.1"))
    wrong = [{**environment, "GLOO_SOCKET_IFNAME": "docker0"} for environment in decided]
    assert not any("sum 3" in said for said in meet(spaces, wrong, "10.82.0.1"))


def test_gloo_meets_over_ipv6(spaces: list[str]) -> None:
    assert socket.has_ipv6
    decision = of(spaces, ["fd82::1", "fd82::2"])
    decided = [decision.environment(node) for node in ("node-1", "node-2")]
    assert all("sum 3" in said for said in meet(spaces, decided, "fd82::1"))
