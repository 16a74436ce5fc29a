"""The stand-in layers compute what plain PyTorch computes, forward and backward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError
from pyswiftops.cpu_backend.transformer_engine import grouped, layers


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def gradients(module: Any, inputs: Any, output: Any) -> list[Any]:
    """Gradients of a fixed random projection of ``output`` to inputs and parameters."""
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    loss = (output.float() * weight).sum()
    return list(torch.autograd.grad(loss, [inputs, *module.parameters()]))


def assert_same(ours: Any, theirs: Any, x: Any) -> None:
    """Both modules map x to the same output and have the same gradients there."""
    x = x.requires_grad_()
    y_ours, y_theirs = ours(x), theirs(x)
    torch.testing.assert_close(y_ours, y_theirs)
    torch.testing.assert_close(gradients(ours, x, y_ours), gradients(theirs, x, y_theirs))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_nn_linear(bias: bool) -> None:
    ours = layers.Linear(12, 7, bias=bias)
    theirs = nn.Linear(12, 7, bias=bias)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    assert_same(ours, theirs, torch.randn(5, 3, 12))


def test_linear_with_return_bias_leaves_the_bias_to_its_caller() -> None:
    linear = layers.Linear(4, 6, return_bias=True)
    nn.init.ones_(linear.bias)
    x = torch.randn(2, 4)
    y, bias = linear(x)
    torch.testing.assert_close(y, x @ linear.weight.T)
    assert bias is linear.bias


@pytest.mark.parametrize(
    ("mode", "shape", "dimension"), [("column", (4, 6), 0), ("row", (8, 3), 1)]
)
def test_linear_holds_one_ranks_shard_and_says_so_to_megatron(
    mode: str, shape: tuple[int, int], dimension: int
) -> None:
    linear = layers.Linear(6, 8, parallel_mode=mode, tp_size=2)
    assert tuple(linear.weight.shape) == shape
    assert linear.weight.tensor_model_parallel
    assert linear.weight.partition_dim == dimension


def test_linear_initialises_under_the_random_state_it_is_given() -> None:
    entered = []

    class Tracker:
        def fork(self, *names: str) -> Any:
            entered.append(names)
            return torch.random.fork_rng()

    layers.Linear(4, 4, get_rng_state_tracker=Tracker)
    layers.Linear(4, 4, get_rng_state_tracker=Tracker, rng_tracker_name="data-parallel")
    assert entered == [(), ("data-parallel",)]


def test_extra_state_without_fp8_is_an_empty_byte_tensor() -> None:
    state = layers.Linear(2, 2).state_dict()["_extra_state"]
    assert state.dtype is torch.uint8
    assert state.numel() == 0


@pytest.mark.parametrize("flag", ["fuse_wgrad_accumulation", "ub_overlap_ag"])
def test_flags_that_need_a_gpu_are_refused_with_a_remedy(flag: str) -> None:
    with pytest.raises(UnsupportedOnCpuError, match=f"{flag}.*device: gpu"):
        layers.Linear(2, 2, **{flag: True})


def test_layer_norm_equals_nn_layer_norm() -> None:
    ours, theirs = layers.LayerNorm(16, eps=1e-6), nn.LayerNorm(16, eps=1e-6)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, torch.randn(5, 3, 16))


def test_rms_norm_equals_nn_rms_norm() -> None:
    ours, theirs = layers.RMSNorm(16, eps=1e-6), nn.RMSNorm(16, eps=1e-6)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, torch.randn(5, 3, 16))


def test_zero_centered_gamma_is_stored_minus_one() -> None:
    centered = layers.RMSNorm(8, zero_centered_gamma=True)
    assert centered.weight.abs().sum() == 0
    x = torch.randn(3, 8)
    torch.testing.assert_close(centered(x), nn.RMSNorm(8, eps=1e-5)(x))


def test_norm_of_bfloat16_is_computed_in_float32() -> None:
    x = torch.randn(4, 64, dtype=torch.bfloat16)
    ours = layers.RMSNorm(64, params_dtype=torch.bfloat16)
    expected = nn.RMSNorm(64, eps=1e-5)(x.float()).bfloat16()
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("normalization", ["LayerNorm", "RMSNorm"])
def test_layer_norm_linear_equals_norm_then_linear(normalization: str) -> None:
    ours = layers.LayerNormLinear(12, 7, eps=1e-6, normalization=normalization)
    nn.init.normal_(ours.layer_norm_weight)
    nn.init.normal_(ours.bias)
    norm = (nn.LayerNorm if normalization == "LayerNorm" else nn.RMSNorm)(12, eps=1e-6)
    linear = nn.Linear(12, 7)
    with torch.no_grad():
        linear.weight.copy_(ours.weight)
        linear.bias.copy_(ours.bias)
        norm.weight.copy_(ours.layer_norm_weight)
    x = torch.randn(5, 12, requires_grad=True)
    torch.testing.assert_close(ours(x), linear(norm(x)))
    named = {"weight": linear.weight, "bias": linear.bias, "layer_norm_weight": norm.weight}
    ours(x).square().sum().backward()
    linear(norm(x)).square().sum().backward()
    for name, theirs in named.items():
        torch.testing.assert_close(getattr(ours, name).grad, theirs.grad)


def test_layer_norm_linear_returns_the_norm_where_lora_looks_for_it() -> None:
    layer = layers.LayerNormLinear(
        8, 4, normalization="RMSNorm", return_bias=True, return_layernorm_output=True
    )
    x = torch.randn(3, 8)
    _, bias, normed = layer(x)
    assert bias is layer.bias
    torch.testing.assert_close(normed, nn.RMSNorm(8, eps=1e-5)(x))


def test_grouped_linear_gives_each_expert_its_rows() -> None:
    ours = grouped.GroupedLinear(3, 8, 5)
    experts = [nn.Linear(8, 5) for _ in range(3)]
    for index, expert in enumerate(experts):
        nn.init.normal_(getattr(ours, f"bias{index}"))
        own = {name: getattr(ours, f"{name}{index}").detach() for name in ("weight", "bias")}
        expert.load_state_dict(copy.deepcopy(own))
    x = torch.randn(7, 8, requires_grad=True)
    splits = torch.tensor([2, 0, 5])
    expected = torch.cat([experts[0](x[:2]), experts[2](x[2:])])
    y = ours(x, splits)
    torch.testing.assert_close(y, expected)
    (ours_x,) = torch.autograd.grad(y.square().sum(), x)
    (theirs_x,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(ours_x, theirs_x)
