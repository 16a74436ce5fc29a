"""``torch.cuda`` on the CPU: one device a rank, streams that are always in order.

Work on the CPU is synchronous, so streams, events and synchronisation have nothing to do.
The random state of "the GPU" is that of the CPU's default generator. What is not replaced
here still ends in torch's own "not compiled with CUDA enabled".
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import time
import types
from collections.abc import Callable
from typing import Any, Self

import torch

_TENSOR_TYPES = ("BFloat16", "Bool", "Byte", "Double", "Float", "Half", "Int", "Long")
_NAME = "pyswiftops CPU stand-in"
_MEGATRON_RANDOM = "megatron.core.tensor_parallel.random"


class Stream:
    """Stands for ``torch.cuda.Stream``: a queue that is always empty."""

    cuda_stream = 0
    stream_id = device_index = device_type = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = torch.device("cpu")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def synchronize(self) -> None:
        """Everything is done already."""

    def wait_stream(self, stream: Any) -> None:
        """The other stream is done already."""

    def wait_event(self, event: Any) -> None:
        """The event has happened already."""

    def query(self) -> bool:
        """Whether all work is done: always."""
        return True

    def record_event(self, event: Event | None = None) -> Event:
        """An event that happens now."""
        event = event or Event()
        event.record()
        return event


class Event:
    """Stands for ``torch.cuda.Event``: remembers the wall clock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = 0.0

    def record(self, stream: Any = None) -> None:
        """Take the time."""
        self.seconds = time.perf_counter()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to ``end_event``."""
        return (end_event.seconds - self.seconds) * 1000

    def synchronize(self) -> None:
        """It has happened already."""

    def wait(self, stream: Any = None) -> None:
        """It has happened already."""

    def query(self) -> bool:
        """Whether it has happened: always."""
        return True


_STREAM = Stream()


def _pages(name: str) -> int:
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def device_count() -> int:
    """One device a rank of this node; torchrun says how many those are."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Free and total bytes of the machine's memory."""
    return _pages("SC_AVPHYS_PAGES"), _pages("SC_PHYS_PAGES")


def get_device_properties(device: Any = None) -> types.SimpleNamespace:
    """What libraries ask about a GPU; its compute capability admits bf16."""
    return types.SimpleNamespace(
        name=_NAME,
        major=8,
        minor=0,
        total_memory=_pages("SC_PHYS_PAGES"),
        multi_processor_count=os.cpu_count() or 1,
        uuid="cpu",
    )


def _memory_stats(device: Any = None) -> dict[str, int]:
    return collections.defaultdict(int)


def _get_rng_state(device: Any = "cuda") -> Any:
    return torch.default_generator.get_state()


def _set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    torch.default_generator.set_state(new_state)


def _set_rng_state_all(new_states: list[Any]) -> None:
    for state in new_states[:1]:
        torch.default_generator.set_state(state)


def _manual_seed(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


def _manual_seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


def _always(value: Any) -> Callable[..., Any]:
    """A new function that returns ``value`` whatever it is called with.

    New each time: torch._dynamo keeps a table of functions by identity, and fails to
    import where one object goes by two of its names.
    """

    def answer(*args: Any, **kwargs: Any) -> Any:
        return value

    return answer


def _replacements() -> dict[str, Any]:
    """Names of ``torch.cuda`` and what stands for them."""
    table: dict[str, Any] = {
        "Stream": Stream,
        "Event": Event,
        "current_stream": _always(_STREAM),
        "default_stream": _always(_STREAM),
        "device_count": device_count,
        "mem_get_info": mem_get_info,
        "get_device_properties": get_device_properties,
        "get_device_capability": _always((8, 0)),
        "get_device_name": _always(_NAME),
        "memory_stats": _memory_stats,
        "default_generators": (torch.default_generator,) * device_count(),
        "get_rng_state": _get_rng_state,
        "set_rng_state": _set_rng_state,
        "get_rng_state_all": lambda: [_get_rng_state()],
        "set_rng_state_all": _set_rng_state_all,
        "manual_seed": _manual_seed,
        "manual_seed_all": _manual_seed_all,
        "initial_seed": torch.initial_seed,
    }
    for value, names in (
        (True, "is_available is_initialized is_bf16_supported"),
        (False, "is_current_stream_capturing _is_in_bad_fork"),
        (contextlib.nullcontext(), "stream device device_of"),
        (0, "current_device memory_allocated memory_reserved"),
        (0, "max_memory_allocated max_memory_reserved"),
        (None, "set_device set_stream synchronize empty_cache ipc_collect init _lazy_init"),
        (None, "reset_peak_memory_stats reset_max_memory_allocated"),
    ):
        table.update({name: _always(value) for name in names.split()})
    for name in _TENSOR_TYPES:
        table[f"{name}Tensor"] = getattr(torch, f"{name}Tensor")
    return table


def _not_about_shared_state(record: logging.LogRecord) -> bool:
    return "CPU RNG state changed within GPU RNG context" not in record.getMessage()


def install() -> None:
    """Replace what libraries call of ``torch.cuda``. Call once, after ``import torch``."""
    for name, value in _replacements().items():
        setattr(torch.cuda, name, value)
    for name in ("get_rng_state", "set_rng_state", "get_rng_state_all", "set_rng_state_all"):
        setattr(torch.cuda.random, name, getattr(torch.cuda, name))
    # Megatron warns hundreds of times that drawing from the GPU's random state moved the
    # CPU's: they are one and the same here.
    logging.getLogger(_MEGATRON_RANDOM).addFilter(_not_about_shared_state)
    for name in ("range_push", "range_pop", "mark"):
        setattr(torch.cuda.nvtx, name, _always(None))
    torch.cuda.nvtx.range = _always(contextlib.nullcontext())
