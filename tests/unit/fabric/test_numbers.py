"""What nodes wrote becomes links and sums; counters, sizes, pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pyswiftops.errors import BadInputError
from pyswiftops.fabric import picture, plan
from pyswiftops.fabric.node import counters
from pyswiftops.fabric.node.ranks import TIME_UP
from pyswiftops.fabric.readings import Link, Sum, read
from pyswiftops.fabric.report import parse_size, size_text
from pyswiftops.specs.fleet import Fleet


def record(*lines: dict[str, Any], end: str = "", **more: Any) -> dict[str, Any]:
    told = {"round": 0, "kind": "pair", "nodes": ["a", "b"], "nccl": [], "counted": {}}
    return {**told, "ranks": [{"lines": list(lines), "end": end}], **more}


def looked(**records: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node: {"rounds": [item]} for node, item in records.items()}


TRIPS = {"latency": 1e-4, "worst": 2e-4}
SENT = ({"size": 1000, "seconds": 1e-5}, {"size": 10_000, "seconds": 2e-5})


def test_a_links_rate_is_that_of_its_better_large_size_as_its_sender_timed_it() -> None:
    told = looked(a=record(TRIPS, *SENT), b=record(TRIPS, {"size": 1000, "seconds": 1e-4}))
    links = read(["a", "b"], "gloo", [told]).links
    assert links["a", "b"].rate == pytest.approx(5e8)
    assert links["b", "a"].rate == pytest.approx(1e7)
    assert links["b", "a"].latency == 1e-4


def test_a_small_message_within_a_shapers_burst_says_nothing_of_the_rate() -> None:
    burst = {"size": 1000, "seconds": 1e-9}
    rest = [{"size": size, "seconds": size / 1e7} for size in (10_000, 100_000)]
    told = looked(a=record(TRIPS, burst, *rest), b=record(TRIPS, *SENT))
    assert read(["a", "b"], "gloo", [told]).links["a", "b"].rate == pytest.approx(1e7)


def test_of_several_ranks_the_slowest_counts_for_all_and_an_odd_one_is_told() -> None:
    slow = {"size": 10_000, "seconds": 1e-3}
    ranks = [{"lines": [TRIPS, line], "end": ""} for line in (SENT[1], SENT[1], slow, SENT[1])]
    told = looked(a={**record(), "ranks": ranks}, b=record(TRIPS))
    link = read(["a", "b"], "nccl", [told]).links["a", "b"]
    assert link.rate == pytest.approx(4 * 1e7)
    assert link.slowest == 2


def test_only_the_direction_that_stalled_is_broken() -> None:
    told = looked(
        a=record(TRIPS, *SENT, {"phase": "receiving 1000 bytes"}, end=TIME_UP),
        b=record(TRIPS, {"phase": "sending 1000 bytes"}, end=TIME_UP),
    )
    links = read(["a", "b"], "gloo", [told]).links
    assert not links["a", "b"].broken
    assert "1000 bytes" in links["b", "a"].broken


def test_a_pair_that_never_connected_is_broken_both_ways() -> None:
    stuck = record({"phase": "connections of the ranks"}, end=TIME_UP)
    links = read(["a", "b"], "gloo", [looked(a=stuck, b=stuck)]).links
    assert all("connections of the ranks" in link.broken for link in links.values())


def test_a_second_look_speaks_for_a_link_and_heals_no_break() -> None:
    slow, fast = Link(rate=1.0, latency=9.0, again=0.2), Link(rate=5.0, latency=1.0, again=0.0)
    assert slow.better(fast) == fast.better(slow) == Link(rate=5.0, latency=1.0, again=0.0)
    assert fast.better(Link(broken="gone")).broken == "gone"


def test_segments_sent_again_count_only_where_data_go_by_sockets() -> None:
    counted = {"sent": 10_000, "sent again": 300, "mlx5_0/1 out_of_sequence": 3}
    told = looked(a=record(TRIPS, *SENT, counted=counted), b=record(TRIPS))
    gloo = read(["a", "b"], "gloo", [told]).links["a", "b"]
    nccl = read(["a", "b"], "nccl", [told]).links["a", "b"]
    assert (gloo.again, nccl.again) == (0.03, 0.0)
    assert nccl.errors == {"mlx5_0/1 out_of_sequence": 3}


def test_bus_bandwidth_is_that_of_nccl_tests() -> None:
    # 8 ranks, 1 GiB in 10 ms: algbw 107.37 GB/s, times 2 * 7 / 8
    item = Sum(("a",), 8, {1 << 30: 0.010})
    assert item.bus(1 << 30) == pytest.approx(187.9e9, rel=1e-3)


def test_counters_are_read_from_where_the_kernel_has_them(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/snmp").write_text(
        "Ip: Forwarding\nIp: 1\nTcp: RtoMin OutSegs RetransSegs\nTcp: 200 5000 7\n"
    )
    port = tmp_path / "sys/class/infiniband/mlx5_0/ports/1/counters"
    port.mkdir(parents=True)
    (port / "symbol_error").write_text("3\n")
    before = counters.read(tmp_path)
    (port / "symbol_error").write_text("5\n")
    assert before == {"sent": 5000, "sent again": 7, "mlx5_0/1 symbol_error": 3}
    assert counters.since(before, counters.read(tmp_path)) == {"mlx5_0/1 symbol_error": 2}
    assert counters.cards(tmp_path) == ["mlx5_0"]
    assert counters.read(tmp_path / "nowhere") == {"sent": 0, "sent again": 0}


@pytest.mark.parametrize("text", ["1K", "64K", "1M", "8G", "4", "1000"])
def test_sizes_are_read_and_written_alike(text: str) -> None:
    size = parse_size(text)
    assert size is not None
    assert size_text(size) == text
    assert parse_size(f"{text}iB".lower()) == size


@pytest.mark.parametrize("text", ["", "0", "-1K", "1T", "2", "9G", "K", "1.5M", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert parse_size(text) is None
    with pytest.raises(BadInputError, match="--sizes"):
        plan.Options(sizes=(text,))


@pytest.mark.parametrize("wrong", [{"pairs": "some"}, {"seconds": 0.5}, {"least": -1}])
def test_options_that_cannot_be_used_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        plan.Options(**wrong)


def test_the_picture_has_a_cell_a_link_and_escapes_what_nodes_said() -> None:
    links = {("a", "b"): Link(rate=2e9), ("b", "a"): Link(broken="<timed> & out")}
    root = ET.fromstring(picture.svg(["a", "b"], links, 'a "title" <x>'))  # noqa: S314 our own
    titles = [item.text for item in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a to b: 2 GB/s", "b to a: <timed> & out"]
    assert picture.shades(["a", "b"], links) == ["--██", "xx--"]


LOCAL = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "local",
    "device": "cpu",
    "root": "/nodes",
    "env": {"NCCL_IB_HCA": "mlx5"},
    "nodes": [{"name": "a"}, {"name": "b"}],
}


def variables(**changes: Any) -> dict[str, dict[str, Any]]:
    fleet = Fleet.from_document({**LOCAL, **changes}, Path("/fleet.yml"))
    return json.loads(json.dumps(fleet.host_vars()))  # type: ignore[no-any-return]


def test_a_job_has_the_environment_of_training_and_brings_its_program() -> None:
    where = {"a": ["127.0.0.1", 1], "b": ["127.0.0.1", 2]}
    options = plan.Options(sizes=("1M", "1K"), env={"MINE": "1"})
    rounds = plan.first_rounds(["a", "b"], options)
    found = plan.requests(variables(), where, rounds, options, "id-0")
    env = found["b"]["env"]
    assert env["GLOO_SOCKET_IFNAME"] == "lo"
    assert (env["NCCL_IB_HCA"], env["MINE"]) == ("mlx5", "1")
    assert not set(plan.STARTED) & set(env)
    asked = json.loads(found["b"]["files"]["/nodes/b/fabric/work/request.json"])
    assert (asked["node"], asked["backend"], asked["sizes"]) == ("b", "gloo", [1024, 1 << 20])
    for name in plan.PROGRAM:
        text = found["b"]["files"][f"/nodes/b/fabric/work/node/{name}"]
        assert "pyswiftops" not in text
    assert found["a"]["hide"] == ["/nodes/b"]


def test_nodes_that_cannot_be_checked_are_refused() -> None:
    told = variables()
    assert plan.chosen(told, []) == ["a", "b"]
    with pytest.raises(BadInputError, match="found: c"):
        plan.chosen(told, ["a", "c"])
    with pytest.raises(BadInputError, match="two nodes"):
        plan.chosen(told, ["a"])


def test_what_was_left_by_an_earlier_check_is_not_taken_for_this_one() -> None:
    old = base64.b64encode(json.dumps({"check": "old", "ended": True}).encode()).decode()
    ended = {
        "a": {"state": "failed", "reason": {"detail": "exit code 1"}, "log_tail": ["no torch"]}
    }
    told = plan.told(["a"], {"a": {"changed": True}}, ended, {"a": {"content": old}}, "new")
    assert told == {"a": {"error": "its job ended early: exit code 1 | no torch"}}
    busy = plan.told(["a"], {"a": {"changed": False}}, {}, {}, "new")
    assert "another check-fabric" in busy["a"]["error"]


def test_where_few_pairs_are_measured_a_bad_half_is_searched() -> None:
    names = [f"n{number}" for number in range(8)]
    fleet = variables(nodes=[{"name": name} for name in names])
    options = plan.Options(pairs="few")
    size = 1 << 20

    def reduced(number: int, group: list[str], seconds: float) -> dict[str, Any]:
        lines = [{"size": size, "seconds": seconds}]
        told = {"round": number, "kind": "all_reduce", "nodes": group}
        return {**record(*lines), **told}

    look = {
        node: {
            "rounds": [
                reduced(0, names, 0.1),
                reduced(1, half, 0.1 if "n1" in half else 0.01),
            ]
        }
        for half in (names[:4], names[4:])
        for node in half
    }
    rounds = plan.second_rounds(fleet, names, [{}, look], options)
    there = {node for round_ in rounds for group in round_ for node in group["nodes"]}
    assert there == {"n0", "n1", "n2", "n3", "n4", "n5"}
    healthy = {node: {"rounds": told["rounds"][1:]} for node, told in look.items() if node > "n3"}
    assert plan.second_rounds(fleet, names, [{}, healthy], options) == []
