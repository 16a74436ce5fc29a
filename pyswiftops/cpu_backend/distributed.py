"""Process groups that ask for NCCL get gloo."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch.distributed
from torch.distributed import distributed_c10d


def gloo_for(backend: Any) -> Any:
    """``"gloo"`` where ``backend`` is left open or names NCCL, else ``backend``."""
    if backend is None or "nccl" in str(backend).lower():
        return "gloo"
    return backend


def _init_process_group(init: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(init)
    def on_gloo(backend: Any = None, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("device_id", None)  # binds NCCL to a GPU
        kwargs.pop("pg_options", None)
        return init(gloo_for(backend), *args, **kwargs)

    return on_gloo


def _new_group(new: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(new)
    def on_gloo(
        ranks: Any = None,
        timeout: Any = None,
        backend: Any = None,
        pg_options: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        kwargs.pop("device_id", None)
        return new(ranks, timeout, gloo_for(backend), None, *args, **kwargs)

    return on_gloo


def _int_splits(sizes: Iterable[Any] | None) -> list[int] | None:
    return None if sizes is None else [int(size) for size in sizes]


def _all_to_all_single(exchange: Callable[..., Any]) -> Callable[..., Any]:
    """Gloo wants split sizes as integers; Megatron's MoE passes tensors' elements."""

    @functools.wraps(exchange)
    def with_int_splits(
        output: Any,
        input: Any,  # noqa: A002 -- torch's own name
        output_split_sizes: Any = None,
        input_split_sizes: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        splits = _int_splits(output_split_sizes), _int_splits(input_split_sizes)
        return exchange(output, input, *splits, *args, **kwargs)

    return with_int_splits


def install() -> None:
    """Wrap the functions that choose a backend. Call once, after ``import torch``."""
    for name, wrap in (
        ("init_process_group", _init_process_group),
        ("new_group", _new_group),
        ("all_to_all_single", _all_to_all_single),
    ):
        wrapped = wrap(getattr(distributed_c10d, name))
        setattr(distributed_c10d, name, wrapped)
        setattr(torch.distributed, name, wrapped)
