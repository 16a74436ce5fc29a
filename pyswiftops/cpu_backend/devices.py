"""Lets ``device="cuda"`` mean the CPU.

Only functions that take a device are wrapped, each once. (A global TorchFunctionMode
would slow every operation down, and holds for one thread only: autograd's and the
checkpoint writers' threads would not see it.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.jit import _builtins
from torch.utils import _device

_LIKE = ("empty", "full", "ones", "rand", "randint", "randn", "zeros")
_NEW = ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros")


def cpu_device(device: Any) -> Any:
    """The CPU where ``device`` names a CUDA device (also by number), else ``device``."""
    if isinstance(device, str):
        return "cpu" if device.partition(":")[0] == "cuda" else device
    if isinstance(device, int) and not isinstance(device, bool):
        return torch.device("cpu")
    if isinstance(device, torch.device) and device.type == "cuda":
        return torch.device("cpu")
    return device


def _factory_on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its keyword ``device`` rewritten and ``pin_memory`` dropped."""

    @functools.wraps(function)
    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if kwargs.get("device") is not None:
                kwargs["device"] = cpu_device(kwargs["device"])
            kwargs.pop("pin_memory", None)
        return function(*args, **kwargs)

    return on_cpu


def _wrap_factories(module: Any, names: list[str]) -> None:
    for name in names:
        function = getattr(module, name)
        on_cpu = _factory_on_cpu(function)
        operator = _builtins._find_builtin(function)  # noqa: SLF001 -- TorchScript's own table
        if operator:  # scripted functions look torch.zeros etc. up there
            _builtins._register_builtin(on_cpu, operator)  # noqa: SLF001
        setattr(module, name, on_cpu)


def _wrap_to(owner: Any) -> None:
    """``owner.to``, whose first argument may be a device, a dtype or a tensor."""
    to = owner.to

    @functools.wraps(to)
    def to_cpu(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") is not None:
            kwargs["device"] = cpu_device(kwargs["device"])
        if args:
            args = (cpu_device(args[0]), *args[1:])
        return to(self, *args, **kwargs)

    owner.to = to_cpu


def _wrap_type() -> None:
    """``Tensor.type()``: Megatron's optimizers accept ``torch.cuda.FloatTensor`` alone."""
    tensor_type = torch.Tensor.type

    @functools.wraps(tensor_type)
    def cuda_type(self: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is None:
            return (
                tensor_type(self).replace("torch.cuda.", "torch.").replace("torch.", "torch.cuda.")
            )
        if isinstance(dtype, str):
            dtype = dtype.replace("torch.cuda.", "torch.")
        return tensor_type(self, dtype, *args, **kwargs)

    torch.Tensor.type = cuda_type


def _wrap_load() -> None:
    """``torch.load(map_location="cuda")``."""
    load = torch.load

    @functools.wraps(load)
    def load_on_cpu(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        return load(f, cpu_device(map_location), *args, **kwargs)

    torch.load = load_on_cpu


def _wrap_device_context() -> None:
    """``with torch.device("cuda"):`` and ``torch.set_default_device("cuda")``."""
    context = _device.DeviceContext
    initialise = context.__init__

    @functools.wraps(initialise)
    def on_cpu(self: Any, device: Any) -> None:
        initialise(self, cpu_device(device))

    context.__init__ = on_cpu


def _stay(owner: Any, name: str) -> None:
    """Let the method ``name`` return its object, which is where it has to be."""

    def stay(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self

    setattr(owner, name, stay)


def install() -> None:
    """Wrap whatever takes a device. Call once, right after ``import torch``."""
    # DeviceContext recognises factories by identity: let it remember the unwrapped ones,
    # which are what it is handed by the wrappers.
    factories = _device._device_constructors()  # noqa: SLF001
    for module in (torch, torch.fft, torch.nested):
        known = [name for name in dir(module) if callable(getattr(module, name))]
        _wrap_factories(module, [name for name in known if getattr(module, name) in factories])
    _wrap_factories(torch, [f"{name}_like" for name in _LIKE])
    _wrap_factories(torch.Tensor, list(_NEW))
    _wrap_to(torch.Tensor)
    _wrap_to(torch.nn.Module)
    _wrap_type()
    _wrap_load()
    _wrap_device_context()
    for name in ("cuda", "pin_memory", "record_stream"):
        _stay(torch.Tensor, name)
    _stay(torch.nn.Module, "cuda")
