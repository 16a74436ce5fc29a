"""Random states, recomputation, and the refusal of fp8."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError
from pyswiftops.cpu_backend.transformer_engine import fp8, rng


def tracker() -> rng.CudaRNGStatesTracker:
    states = rng.CudaRNGStatesTracker()
    states.add("model-parallel-rng", 7)
    return states


def test_a_forked_state_continues_and_leaves_the_outer_one_alone() -> None:
    states = tracker()
    torch.manual_seed(1)
    outer = torch.get_rng_state()
    with states.fork():
        first = torch.rand(3)
    with states.fork():
        second = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), outer)
    expected = torch.rand(6, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.cat([first, second]), expected)


def test_names_and_seeds_are_tracked_once() -> None:
    with pytest.raises(ValueError, match="tracked already"):
        tracker().add("other", 7)


def test_recomputation_repeats_the_dropout_of_the_forward_pass() -> None:
    states = tracker()
    masks = []

    def drop(x: Any) -> Any:
        with states.fork():
            y = F.dropout(x, 0.5)
        masks.append(y.detach() != 0)
        return y * y

    x = torch.ones(64, requires_grad=True)
    y = rng.checkpoint(drop, x, get_rng_state_tracker=lambda: states)
    after_forward = states.get_states()
    y.sum().backward()
    assert len(masks) == 2
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(x.grad != 0, masks[0])
    assert torch.equal(
        states.get_states()["model-parallel-rng"], after_forward["model-parallel-rng"]
    )


def test_fp8_may_be_switched_off_but_not_on() -> None:
    with fp8.fp8_autocast(enabled=False):
        pass
    with pytest.raises(UnsupportedOnCpuError, match=r"fp8.*device: gpu"):
        fp8.fp8_autocast()
    recipe = fp8.unsupported("DelayedScaling")
    assert not isinstance(object(), recipe)
    with pytest.raises(UnsupportedOnCpuError, match="DelayedScaling"):
        recipe()
