"""A slow, a lossy and a blocked link between container nodes are found and named, and no others.

The nodes are containers with sshd; the Python of these tests, with its torch, is mounted into them.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.container_nodes import Nodes, container_nodes, run
from pyswiftops.client import Client
from pyswiftops.fabric.plan import Options
from pyswiftops.fabric.report import FabricReport
from pyswiftops.specs.fleet import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]

QUICK = Options(sizes=("64K", "1M", "8M"), seconds=12, grace=15)
NEW = ("-p", "tcp", "--syn")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Three, whose Python is that of these tests."""
    mounted = {sys.prefix, sys.base_prefix} - {"/usr"}
    volumes = [f"{folder}:{folder}:ro" for folder in sorted(mounted)]
    with container_nodes(3, "fabric-test", "172.30.65.0/24", volumes=volumes) as made:
        document = yaml.safe_load(made.inventory.read_text(encoding="utf-8"))
        made.inventory.write_text(yaml.safe_dump({**document, "python": sys.executable}))
        yield made


def in_network(nodes: Nodes, node: str, *argv: str) -> None:
    """Run one of this machine's programs in the network of a node."""
    container = f"swiftops-{nodes.fleet.name}-{node}"
    pid = run("docker", "inspect", "--format", "{{.State.Pid}}", container)
    run("nsenter", "--target", pid, "--net", *argv)


def address(nodes: Nodes, node: str) -> str:
    return str(nodes.fleet.host_vars()[node]["swiftops_address"])


@contextlib.contextmanager
def rules(nodes: Nodes, node: str, *wanted: tuple[str, ...]) -> Iterator[None]:
    """Rules of a node's packet filter, for a while."""
    for rule in wanted:
        in_network(nodes, node, "iptables", "-A", *rule)
    try:
        yield
    finally:
        in_network(nodes, node, "iptables", "-F")


@contextlib.contextmanager
def slowed(nodes: Nodes, node: str, rate: str, to: str | None = None) -> Iterator[None]:
    """What a node sends, to another or to all, goes at a rate."""
    tc = ("tc", "qdisc", "add", "dev", "eth0")
    if to is None:
        in_network(nodes, node, *tc, *f"root tbf rate {rate} burst 64kb limit 4mb".split())
    else:
        in_network(nodes, node, *tc, *["root", "handle", "1:", "htb", "default", "1"])
        add = ("tc", "class", "add", "dev", "eth0", "parent", "1:", "classid")
        in_network(nodes, node, *add, *["1:1", "htb", "rate", "40gbit"])
        in_network(nodes, node, *add, *f"1:2 htb rate {rate}".split())
        match = f"parent 1: protocol ip u32 match ip dst {address(nodes, to)}/32 flowid 1:2"
        in_network(nodes, node, "tc", "filter", "add", "dev", "eth0", *match.split())
    try:
        yield
    finally:
        in_network(nodes, node, "tc", "qdisc", "del", "dev", "eth0", "root")


def check(nodes: Nodes) -> FabricReport:
    return Client(nodes.folder / "runs").check_fabric(Fleet.load(nodes.inventory), options=QUICK)


def named(report: FabricReport) -> list[tuple[str, str]]:
    return [(fault.kind, fault.where) for fault in report.faults]


def ranks(nodes: Nodes, node: str) -> str:
    """The processes that measure on a node."""
    return str(nodes.inside(node, "sh", "-c", "pgrep -f '[n]ode.measuring' || true"))


def command(nodes: Nodes, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["check-fabric", "-i", str(nodes.inventory), "--timeout", "12", *more]
    return subprocess.run(
        [sys.executable, "-m", "pyswiftops.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_of_a_healthy_fleet_nothing_is_named(nodes: Nodes, tmp_path: Path) -> None:
    picture = tmp_path / "pairs.svg"
    done = command(nodes, "--json", "--picture", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["faults"] == []
    assert len(told["pairs"]) == 6
    assert all(pair["rate"] > 1e7 and 0 < pair["latency"] < 1 for pair in told["pairs"])
    whole = told["all_reduce"][0]
    assert (whole["ranks"], [item["bytes"] for item in whole["sizes"]]) == (
        3, [1 << 10, 1 << 16, 1 << 20, 1 << 24],
    )  # fmt: skip
    item = whole["sizes"][-1]
    assert item["busbw"] == pytest.approx(item["bytes"] / item["seconds"] * 4 / 3)
    assert picture.read_text(encoding="utf-8").count("<title>") == 6


def test_a_slow_link_is_named_with_its_direction(nodes: Nodes) -> None:
    with slowed(nodes, "node-2", "100mbit", to="node-3"):
        report = check(nodes)
    assert [item for item in named(report) if item[0] == "slow"] == [("slow", "node-2 -> node-3")]
    assert {item[1] for item in named(report)} == {"node-2 -> node-3"}
    link = report.readings.links["node-2", "node-3"]
    assert link.rate == pytest.approx(100e6 / 8, rel=0.3)


def test_an_interrupt_ends_what_measures_on_the_nodes(nodes: Nodes) -> None:
    mine = ["env", "--default-signal=INT"]  # which a test in the background ignores
    words = [*mine, sys.executable, "-m", "pyswiftops.cli.main", "check-fabric"]
    words += ["-i", str(nodes.inventory), "--sizes", "64K,256M"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as check:
        began = time.monotonic()
        while not all(ranks(nodes, name) for name in nodes.names):
            assert check.poll() is None
            assert time.monotonic() - began < 60
            time.sleep(0.5)
        check.send_signal(signal.SIGINT)
        _, said = check.communicate(timeout=60)
    assert check.returncode == 130
    assert "interrupted: ending what measures on the nodes" in said.decode()
    assert [ranks(nodes, name) for name in nodes.names] == ["", "", ""]


@pytest.mark.long
def test_a_node_that_sends_slowly_is_named_and_not_its_pairs(nodes: Nodes) -> None:
    with slowed(nodes, "node-1", "100mbit"):
        report = check(nodes)
    assert ("slow", "node-1 sending") in named(report)
    assert {fault.nodes for fault in report.faults} == {("node-1",)}


@pytest.mark.long
def test_a_lossy_link_is_named(nodes: Nodes) -> None:
    lost = ("-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP")
    with rules(nodes, "node-1", ("INPUT", "-s", address(nodes, "node-3"), *lost)):
        report = check(nodes)
    assert ("lossy", "node-3 -> node-1") in named(report)
    assert {frozenset(fault.nodes) for fault in report.faults} == {frozenset(("node-1", "node-3"))}


def test_ports_that_are_blocked_between_two_nodes_are_named_with_the_remedy(nodes: Nodes) -> None:
    other = address(nodes, "node-3")
    free = ("--dport", "32768:60999", "-j", "DROP")
    with rules(
        nodes, "node-2", ("INPUT", "-s", other, *NEW, *free), ("OUTPUT", "-d", other, *NEW, *free)
    ):
        report = check(nodes)
    assert named(report) == [("broken", "node-2 <-> node-3")]
    assert "connections of the ranks" in report.faults[0].found
    assert "ports" in report.faults[0].remedy
    assert report.readings.links["node-1", "node-2"].rate
    assert report.readings.links["node-3", "node-1"].rate


@pytest.mark.long
def test_a_node_that_no_other_reaches_is_named_in_limited_time(nodes: Nodes) -> None:
    with rules(
        nodes, "node-3",
        *(("INPUT", "-s", address(nodes, node), "-j", "DROP") for node in ("node-1", "node-2")),
    ):  # fmt: skip
        done = command(nodes)
    assert done.returncode == 1
    assert "broken node-3: " in done.stdout
    assert done.stdout.count("remedy:") == 1
