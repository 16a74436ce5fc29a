"""Stands for ``triton`` as far as importing modules that define kernels goes.

Decorators return the function they decorate; every other name is an inert placeholder.
Launching a kernel (``kernel[grid](...)``) raises, because the placeholder cannot compute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError

_SUBMODULES = (
    "backends",
    "backends.compiler",
    "compiler",
    "language",
    "language.core",
    "language.extra",
    "language.extra.libdevice",
    "runtime",
    "runtime.autotuner",
    "runtime.jit",
)


class Placeholder:
    """Any object of Triton that is named, but not used, while a module is imported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Another placeholder."""
        return Placeholder()

    def __getattr__(self, name: str) -> Any:
        return _placeholder(name)

    def __getitem__(self, key: Any) -> Any:
        return Placeholder()

    def __or__(self, other: Any) -> Any:
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return ()


class Kernel:
    """Stands for ``triton.runtime.JITFunction``: keeps the source, cannot run it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function
        self.__name__ = getattr(function, "__name__", "kernel")
        self.__doc__ = function.__doc__

    def __getitem__(self, grid: Any) -> Any:
        raise UnsupportedOnCpuError(f"the Triton kernel {self.__name__}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise: there is nothing that could compile the kernel."""
        raise UnsupportedOnCpuError(f"the Triton kernel {self.__name__}")


def _placeholder(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return Placeholder()


def _decorator(*args: Any, **kwargs: Any) -> Any:
    """``@triton.jit``, with or without arguments."""
    if args and callable(args[0]) and not isinstance(args[0], Placeholder):
        return args[0] if isinstance(args[0], Kernel) else Kernel(args[0])
    return _decorator


def build(triton: ModuleType) -> None:
    """Fill the empty module ``triton`` and register its submodules."""
    values: dict[str, Any] = {
        "__version__": "0.0.0",  # older than any version that libraries ask for
        "__path__": [],
        "jit": _decorator,
        "autotune": _decorator,
        "heuristics": _decorator,
        "cdiv": lambda x, y: -(-x // y),
        "next_power_of_2": lambda n: 1 << (n - 1).bit_length(),
        "Config": Placeholder,
        "__getattr__": _placeholder,
    }
    triton.__dict__.update(values)
    for name in _SUBMODULES:
        full = f"triton.{name}"
        module = ModuleType(full)
        module.__spec__ = ModuleSpec(full, None, is_package=True)
        module.__dict__.update({"__path__": [], "__getattr__": _placeholder})
        sys.modules[full] = module
        parent, _, leaf = full.rpartition(".")
        setattr(sys.modules[parent], leaf, module)
