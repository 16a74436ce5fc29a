"""There is no fp8 on the CPU: off is accepted everywhere, on is refused."""

from __future__ import annotations

import contextlib
from typing import Any

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError


def unsupported(name: str) -> type:
    """A class that stands for upstream's ``name``, for isinstance; it cannot be made."""

    def refuse(self: object, *args: Any, **kwargs: Any) -> None:
        raise UnsupportedOnCpuError(f"Transformer Engine's {name}")

    return type(name, (), {"__init__": refuse, "__doc__": f"Stands for upstream's {name}."})


def fp8_autocast(enabled: bool = True, **kwargs: Any) -> contextlib.nullcontext[None]:
    """Stands for ``transformer_engine.pytorch.fp8_autocast``; only to switch fp8 off."""
    if enabled:
        raise UnsupportedOnCpuError("fp8", "drop `--fp8_format`, or use `device: gpu`")
    return contextlib.nullcontext()


class FP8GlobalStateManager:
    """Stands for ``transformer_engine.pytorch.fp8.FP8GlobalStateManager``: fp8 is off."""

    @staticmethod
    def is_fp8_enabled() -> bool:
        """Never."""
        return False

    @staticmethod
    def is_fp8_calibration() -> bool:
        """Never."""
        return False

    @staticmethod
    def is_first_fp8_module() -> bool:
        """Never."""
        return False

    @staticmethod
    def get_fp8_recipe() -> None:
        """None is in force."""

    @staticmethod
    def set_skip_fp8_weight_update_tensor(skip: bool) -> None:
        """There are no fp8 weights to update."""

    @staticmethod
    def reset() -> None:
        """There is no state to reset."""


class Format:
    """Stands for ``transformer_engine.common.recipe.Format``: names, for parsing alone."""

    E4M3 = "e4m3"
    E5M2 = "e5m2"
    HYBRID = "hybrid"
