"""The stand-in FusedAdam follows torch's Adam and AdamW step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError
from pyswiftops.cpu_backend.transformer_engine.optimizer import FusedAdam

OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def pair(*shapes: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    """The same random parameters, twice."""
    torch.manual_seed(0)
    ours = [torch.randn(shape, requires_grad=True) for shape in shapes]
    return ours, [p.detach().clone().requires_grad_() for p in ours]


def train(optimizer: Any, params: list[Any], steps: int) -> None:
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize(
    ("adam_w_mode", "reference"), [(True, torch.optim.AdamW), (False, torch.optim.Adam)]
)
def test_twenty_steps_equal_torchs(adam_w_mode: bool, reference: Any) -> None:
    ours, theirs = pair((7, 5), (3,))
    train(FusedAdam(ours, adam_w_mode=adam_w_mode, **OPTIONS), ours, 20)
    train(reference(theirs, **OPTIONS), theirs, 20)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_step_is_counted_in_the_group_where_megatron_reads_it() -> None:
    ours, _ = pair((2,))
    optimizer = FusedAdam([{"params": ours}, {"params": []}], **OPTIONS)
    train(optimizer, ours, 3)
    assert optimizer.param_groups[0]["step"] == 3
    assert "step" not in optimizer.param_groups[1]
    assert set(optimizer.state[ours[0]]) == {"exp_avg", "exp_avg_sq"}


def test_a_resumed_optimizer_continues_as_if_never_stopped() -> None:
    ours, theirs = pair((4, 4))
    first, whole = FusedAdam(ours, **OPTIONS), FusedAdam(theirs, **OPTIONS)
    generator = torch.Generator().manual_seed(3)
    gradients = torch.randn(6, 4, 4, generator=generator)
    for index, gradient in enumerate(gradients):
        if index == 3:
            state = first.state_dict()
            first = FusedAdam(ours, **OPTIONS)
            first.load_state_dict(state)
        ours[0].grad, theirs[0].grad = gradient.clone(), gradient.clone()
        first.step()
        whole.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_parameters_without_a_gradient_stay() -> None:
    ours, theirs = pair((3,), (3,))
    optimizer = FusedAdam(ours, **OPTIONS)
    ours[0].grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=0)
    assert not torch.equal(ours[0], theirs[0])


def test_bfloat16_parameters_are_updated_in_float32() -> None:
    param = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    param.grad = torch.full((4,), 0.5, dtype=torch.bfloat16)
    optimizer = FusedAdam([param], lr=0.25)
    optimizer.step()
    assert optimizer.state[param]["exp_avg"].dtype is torch.float32
    torch.testing.assert_close(param.detach(), torch.full((4,), 0.75, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    "option",
    [{"master_weights": True}, {"exp_avg_dtype": torch.bfloat16}, {"bias_correction": False}],
)
def test_the_precision_aware_optimizer_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOnCpuError, match="FusedAdam"):
        FusedAdam([torch.zeros(1, requires_grad=True)], **option)
