"""What training is tried again for, and which spares take lost nodes' places."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pyswiftops.checkpoints.retrying import OF_MACHINES, OF_RUNS, Failure, again, assign
from pyswiftops.explain import explain, known_errors
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import Retry

TWICE = Retry(attempts=2)


@pytest.mark.parametrize(
    ("kind", "log"),
    [
        ("exited", "Signal 9 (SIGKILL) received by PID 1"),
        ("exited", "Watchdog caught collective operation timeout: WorkNCCL"),
        ("exited", "ncclRemoteError: A call failed possibly due to a network error"),
        ("exited", "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered"),
        ("hung", "ValueError: the answer is 42"),
        ("signal", "killed"),
        ("lost", ""),
        ("peer_silent", ""),
    ],
)
def test_what_a_machine_or_the_network_did_is_tried_again(kind: str, log: str) -> None:
    failure = Failure("node-2", kind, explain(log))
    assert again(failure, 0, TWICE) is not None
    assert "node-2" in failure.why_again


@pytest.mark.parametrize(
    ("kind", "log"),
    [
        ("exited", "torch.OutOfMemoryError: CUDA out of memory."),
        ("signal", "torch.OutOfMemoryError: CUDA out of memory."),
        ("exited", "ValueError: remaining_argv: ['--lrr', '1']"),
        ("exited", "ValueError: the answer is 42"),
        ("exited", "OSError: [Errno 28] No space left on device"),
        ("nan", ""),
        ("stopped", ""),
        ("isolation", ""),
        ("start_failed", ""),
    ],
)
def test_what_would_only_fail_again_is_not(kind: str, log: str) -> None:
    assert again(Failure("node-2", kind, explain(log)), 0, TWICE) is None


def test_a_node_that_cannot_be_reached_is_worth_a_try_whatever_the_others_say() -> None:
    known = explain("torch.OutOfMemoryError: CUDA out of memory.")
    once_more = again(Failure("node-1", "exited", known, ("node-2",)), 0, TWICE)
    assert once_more is not None
    assert once_more.why == "node-2 could not be reached"


def test_a_node_with_a_broken_gpu_is_not_used_again() -> None:
    once_more = again(Failure("node-2", "exited", explain("NVRM: Xid (PCI): 79")), 1, TWICE)
    assert once_more is not None
    assert (once_more.number, once_more.broken) == (2, ("node-2",))


def test_a_broken_machine_is_one_whose_error_passes_elsewhere() -> None:
    assert all(known.passes for known in known_errors() if known.broken)


KINDS = some.sampled_from([*OF_MACHINES, *OF_RUNS, "exited", "peer_failed", ""])
FAILURES = some.builds(
    Failure,
    some.sampled_from(["", "node-1"]),
    KINDS,
    some.none(),
    some.sampled_from([(), ("node-2",)]),
)


@settings(derandomize=True)
@given(FAILURES, some.integers(0, 5), some.builds(Retry, attempts=some.integers(0, 5)))
def test_there_are_never_more_tries_than_the_run_allows(
    failure: Failure, made: int, retry: Retry
) -> None:
    once_more = again(failure, made, retry)
    assert (once_more is not None) == (bool(failure.why_again) and made < retry.attempts)
    if once_more is not None:
        assert once_more.number <= retry.attempts


def fleet(gpus: list[int], spares: list[int]) -> Fleet:
    nodes = [{"name": f"node-{number}", "gpus": count} for number, count in enumerate(gpus)]
    nodes += [
        {"name": f"spare-{number}", "gpus": count, "spare": True}
        for number, count in enumerate(spares)
    ]
    for number, node in enumerate(nodes):
        node["address"] = f"10.0.0.{number + 1}"
    document = {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "nodes": nodes}
    return Fleet.from_document(document, Path("/nowhere/fleet.yml"))


@settings(derandomize=True, deadline=None)
@given(
    some.lists(some.integers(1, 3), min_size=1, max_size=4),
    some.lists(some.integers(1, 3), max_size=4),
    some.sets(some.integers(0, 5)),
    some.sets(some.integers(0, 4)),
)
def test_spares_are_used_once_each_and_have_as_many_ranks(
    gpus: list[int], spares: list[int], lost: set[int], dead: set[int]
) -> None:
    made = fleet(gpus, spares)
    names = {f"node-{number}" for number in lost}
    no_use = {f"spare-{number}" for number in dead}
    pairs = assign(made, names, no_use)
    ranks = {node.name: made.ranks(node) for node in made.nodes}
    assert set(pairs) <= names & set(ranks)
    assert len(set(pairs.values())) == len(pairs)
    assert not set(pairs.values()) & no_use
    assert all(ranks[old] == ranks[new] for old, new in pairs.items())
    left = [
        ranks[spare.name] for spare in made.spares if spare.name not in {*pairs.values(), *no_use}
    ]
    assert not any(ranks[old] in left for old in names & set(ranks) if old not in pairs)
