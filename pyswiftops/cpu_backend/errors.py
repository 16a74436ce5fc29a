"""What the CPU backend refuses, and why."""

from __future__ import annotations

from pyswiftops.errors import SwiftOpsError


class CpuBackendError(SwiftOpsError, RuntimeError):
    """The CPU backend cannot be switched on in this process.

    A ``RuntimeError`` and not an ``ImportError``: libraries that try optional imports
    swallow the latter, and would then train with half a backend.
    """


class UnsupportedOnCpuError(SwiftOpsError, RuntimeError):
    """Something was asked of a stand-in that only the real library on a GPU can do."""

    def __init__(self, feature: str, remedy: str = "use `device: gpu`") -> None:
        self.feature = feature
        super().__init__(
            f"{feature} is not available on the pyswiftops CPU backend, whose Transformer "
            f"Engine, CUDA and NCCL are plain-PyTorch stand-ins; {remedy}"
        )
