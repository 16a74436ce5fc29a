from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pyswiftops.fabric import schedule

counts = st.integers(min_value=2, max_value=40)


def names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(count)]


@given(counts)
def test_every_two_nodes_meet_once_in_as_few_rounds_as_can_be(count: int) -> None:
    rounds = schedule.tournament(names(count))
    met = [pair for round_ in rounds for pair in round_]
    assert len(met) == len(set(met))
    assert set(met) == set(itertools.combinations(names(count), 2))
    assert len(rounds) == count - 1 + count % 2


@given(counts)
def test_nobody_is_in_two_groups_of_a_round(count: int) -> None:
    for round_ in schedule.rounds(names(count), pairs=True):
        there = [node for group in round_ for node in group["nodes"]]
        assert len(there) == len(set(there))


@given(counts)
def test_a_bisection_has_so_few_rounds_as_the_logarithm_says(count: int) -> None:
    rounds = schedule.rounds(names(count), pairs=False)
    assert len(rounds) <= count.bit_length() + 1
    assert {node for group in rounds[-1] for node in group["nodes"]} >= set(names(count)[:-1])


@given(st.sets(st.sampled_from(list(itertools.combinations(names(12), 2))), min_size=1))
def test_suspects_are_all_looked_at_twice_more(suspects: set[schedule.Pair]) -> None:
    rounds = schedule.again(sorted(suspects))
    met = [tuple(group["nodes"]) for round_ in rounds for group in round_]
    assert sorted(met) == sorted([*suspects, *suspects])
    assert len(suspects) > schedule.ALONE or all(len(round_) == 1 for round_ in rounds)


def test_one_node_with_several_gpus_has_its_all_reduce_alone() -> None:
    assert schedule.rounds(["a"], pairs=True) == [[{"kind": "all_reduce", "nodes": ["a"]}]]
