"""The Triton stub lets kernels be defined, and refuses to launch them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from pyswiftops.cpu_backend import triton_stub
from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError


@pytest.fixture
def triton() -> Iterator[Any]:
    """The stub under its own name, taken out again afterwards."""
    before = {name: module for name, module in sys.modules.items() if _is_triton(name)}
    stub = ModuleType("triton")
    sys.modules["triton"] = stub
    triton_stub.build(stub)
    yield stub
    for name in [name for name in sys.modules if _is_triton(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def _is_triton(name: str) -> bool:
    return name.partition(".")[0] == "triton"


def test_kernels_can_be_defined_but_not_launched(triton: Any) -> None:
    import triton.language as tl  # noqa: PLC0415 -- the stub exists within this test

    @triton.autotune(configs=[triton.Config({}, num_warps=4)], key=["n"])
    @triton.jit
    def kernel(x_ptr: Any, n: tl.constexpr) -> None:
        """Add nothing."""

    assert kernel.__doc__ == "Add nothing."
    with pytest.raises(UnsupportedOnCpuError, match="the Triton kernel kernel"):
        kernel[(1,)](0, 1)


def test_helpers_that_need_no_gpu_compute(triton: Any) -> None:
    assert triton.cdiv(10, 4) == 3
    assert triton.next_power_of_2(5) == 8
