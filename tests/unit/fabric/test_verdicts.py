"""Verdicts over matrices of rates: noise is no fault, and a fault is laid on who has it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswiftops.fabric import verdicts
from pyswiftops.fabric.nccl_log import Ways
from pyswiftops.fabric.readings import Direction, Link, Readings, Sum
from pyswiftops.fabric.verdicts import Limits, blame, faults

SPREAD = {"nccl": 0.03, "gloo": 0.15}  # of the logarithm, as even fabrics have it
APART = Limits(hosts={})


def fabric(
    count: int,
    backend: str = "nccl",
    seed: int = 0,
    change: Callable[[Direction, Link], Link] = lambda _direction, link: link,
) -> Readings:
    """An even fabric with noise, and what ``change`` makes of its links."""
    nodes = tuple(f"n{number}" for number in range(count))
    chance = random.Random(seed)  # noqa: S311 noise, and the same each time
    rate, latency = (45e9, 12e-6) if backend == "nccl" else (1.1e9, 90e-6)

    def noisy(value: float) -> float:
        return value * math.exp(chance.gauss(0, SPREAD[backend]))

    links = {
        pair: change(pair, Link(rate=noisy(rate), latency=noisy(latency), worst=3 * latency))
        for pair in itertools.permutations(nodes, 2)
    }
    return Readings(nodes, backend, links=links)


def slower(*slow: Direction, by: float = 0.3) -> Callable[[Direction, Link], Link]:
    def change(direction: Direction, link: Link) -> Link:
        return replace(link, rate=(link.rate or 0) * by) if direction in slow else link

    return change


def named(readings: Readings, limits: Limits = APART) -> list[tuple[str, str]]:
    return [(fault.kind, fault.where) for fault in faults(readings, limits)]


kinds = st.sampled_from(["nccl", "gloo"])
seeds = st.integers(0, 10_000)


@given(st.integers(2, 24), kinds, seeds)
def test_an_even_fabric_with_noise_has_no_fault(count: int, backend: str, seed: int) -> None:
    readings = fabric(count, backend, seed)
    assert named(readings) == []
    assert verdicts.suspects(readings, APART) == []


@given(st.integers(3, 16), kinds, seeds, st.data())
def test_a_slow_node_is_named_and_nobody_else(
    count: int, backend: str, seed: int, data: st.DataObject
) -> None:
    node = f"n{data.draw(st.integers(0, count - 1))}"
    ends, words = data.draw(
        st.sampled_from([((0,), " sending"), ((1,), " receiving"), ((0, 1), "")])
    )

    def change(direction: Direction, link: Link) -> Link:
        bad = any(direction[end] == node for end in ends)
        return replace(link, rate=(link.rate or 0) * 0.1) if bad else link

    assert named(fabric(count, backend, seed, change)) == [("slow", f"{node}{words}")]


@given(st.integers(3, 16), kinds, seeds, st.booleans())
def test_a_slow_pair_is_named_with_its_direction(
    count: int, backend: str, seed: int, both: bool
) -> None:
    slow = [("n0", "n1"), *([("n1", "n0")] if both else [])]
    sign = "<->" if both else "->"
    assert named(fabric(count, backend, seed, slower(*slow, by=0.1))) == [("slow", f"n0 {sign} n1")]


def test_half_of_a_link_is_slow_with_nccl_and_not_with_gloo() -> None:
    half = slower(("n0", "n1"), by=0.5)
    assert named(fabric(4, "nccl", change=half)) == [("slow", "n0 -> n1")]
    assert named(fabric(4, "gloo", change=half)) == []


def test_links_within_a_machine_are_held_against_their_like() -> None:
    hosts = {"n0": "a", "n1": "a", "n2": "b", "n3": "b"}

    def change(direction: Direction, link: Link) -> Link:
        same = hosts[direction[0]] == hosts[direction[1]]
        return replace(link, rate=400e9) if same else link

    assert named(fabric(4, change=change), Limits(hosts)) == []


def test_of_two_nodes_only_what_must_be_reached_tells_that_both_ways_are_slow() -> None:
    assert named(fabric(2, change=slower(("n0", "n1"), ("n1", "n0")))) == []
    told = faults(fabric(2), Limits({}, least=100e9))
    assert [(fault.kind, fault.where) for fault in told] == [("slow", "n0 <-> n1")]
    assert "100 GB/s" in told[0].expected


@given(st.integers(3, 12), kinds, seeds)
def test_what_is_broken_is_named_once_and_first(count: int, backend: str, seed: int) -> None:
    def change(direction: Direction, link: Link) -> Link:
        return Link(broken="n1: stuck in connections of the ranks") if "n1" in direction else link

    found = faults(fabric(count, backend, seed, change), APART)
    assert [(fault.kind, fault.where) for fault in found] == [("broken", "n1")]
    assert "ports" in found[0].remedy


def test_where_every_pair_is_broken_no_node_is_blamed() -> None:
    everything = fabric(4, change=lambda _direction, _link: Link(broken="timed out"))
    assert named(everything) == [("broken", "every pair")]


def test_a_node_that_told_nothing_is_not_named_for_its_links_too() -> None:
    readings = fabric(4, change=lambda pair, link: Link(broken="refused") if "n2" in pair else link)
    silent = replace(readings, silent={"n2": "it could not be reached"})
    assert named(silent) == [("silent", "n2")]


@pytest.mark.parametrize(("again", "expected"), [(0.0007, []), (0.02, [("lossy", "n0 -> n2")])])
def test_loss_is_told_from_timers_that_fired_late(
    again: float, expected: list[tuple[str, str]]
) -> None:
    def change(direction: Direction, link: Link) -> Link:
        return replace(link, again=again) if direction == ("n0", "n2") else link

    assert named(fabric(3, "gloo", change=change)) == expected


def test_a_high_latency_is_named_and_microseconds_are_not() -> None:
    def change(direction: Direction, link: Link) -> Link:
        pair, far = set(direction), {"n0": 26e-6, "n1": 200e-6}
        other = (pair - {"n2"}).pop() if "n2" in pair else ""
        return replace(link, latency=far.get(other, link.latency))

    assert named(fabric(5, change=change)) == [("late", "n1 <-> n2")]


def test_errors_of_an_rdma_port_are_added_up_for_their_node() -> None:
    def change(direction: Direction, link: Link) -> Link:
        errors = {"mlx5_0/1 symbol_error": 2} if direction[0] == "n1" else {}
        return replace(link, errors=errors)

    found = faults(fabric(3, change=change), APART)
    assert [(fault.kind, fault.where) for fault in found] == [("errors", "n1")]
    assert found[0].found == "mlx5_0/1 symbol_error +4"


def test_a_whole_that_is_slow_though_its_halves_are_not_is_laid_on_what_lies_between() -> None:
    nodes = tuple(f"n{number}" for number in range(8))
    size = 1 << 28

    def reduced(group: tuple[str, ...], bus: float) -> Sum:
        ranks = 8 * len(group)
        return Sum(group, ranks, {size: size / bus * 2 * (ranks - 1) / ranks})

    halves = (reduced(nodes[:4], 40e9), reduced(nodes[4:], 42e9))
    even = replace(fabric(8), sums=(reduced(nodes, 38e9), *halves))
    assert named(even) == []
    narrow = replace(even, sums=(reduced(nodes, 9e9), *halves))
    assert named(narrow) == [("whole", "n0 to n7, 8 nodes")]
    bad = replace(even, sums=(reduced(nodes, 9e9), halves[0], reduced(nodes[4:], 9e9)))
    assert verdicts.bad_groups(bad) == list(nodes[4:])


def test_rdma_without_gpudirect_is_a_fault_unless_it_is_not_expected() -> None:
    way = Ways(network="IB", staged={"IB": 8}, disabled=("HCA 0 'mlx5_0'",))
    readings = replace(fabric(2), ways={"n0": way})
    (fault,) = faults(readings, APART)
    assert (fault.kind, fault.nodes) == ("gpudirect", ("n0",))
    assert "HCA 0 'mlx5_0'" in fault.found
    assert "nvidia_peermem" in fault.remedy
    assert faults(readings, Limits({}, gpudirect=False)) == []


def test_sockets_beside_rdma_devices_are_a_fault_unless_they_were_chosen() -> None:
    way = Ways(network="Socket", staged={"Socket": 4})
    readings = replace(fabric(2), ways={"n0": way}, cards={"n0": ("mlx5_0",)})
    assert named(readings) == [("sockets", "n0")]
    chosen = replace(way, settings={"NCCL_IB_DISABLE": "1"})
    assert named(replace(readings, ways={"n0": chosen})) == []


@given(st.sets(st.sampled_from(list(itertools.permutations("abcde", 2)))))
def test_every_bad_link_is_laid_on_somebody_once(bad: set[Direction]) -> None:
    found = blame(bad, itertools.permutations("abcde", 2))
    laid = [link for item in found for link in item.links]
    assert sorted(laid) == sorted(bad)
