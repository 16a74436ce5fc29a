"""Random states and recomputation: ``transformer_engine.pytorch.distributed``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.checkpoint

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError


class CudaRNGStatesTracker:
    """Stands for ``transformer_engine.pytorch.distributed.CudaRNGStatesTracker``.

    Named states of the CPU's generator: dropout inside ``fork(name)`` draws from that
    state, so that tensor-parallel ranks can agree or differ on purpose.
    """

    def __init__(self) -> None:
        self.states_: dict[str, Any] = {}
        self.seeds_: set[int] = set()

    def reset(self) -> None:
        """Forget all states and seeds."""
        self.states_, self.seeds_ = {}, set()

    def get_states(self) -> dict[str, Any]:
        """A shallow copy of the states."""
        return dict(self.states_)

    def set_states(self, states: dict[str, Any]) -> None:
        """Replace the states."""
        self.states_ = states

    def add(self, name: str, seed: int) -> None:
        """Add the state ``name``, seeded with ``seed``, which must be new as well."""
        if seed in self.seeds_ or name in self.states_:
            raise ValueError(f"random state {name!r} or seed {seed} is tracked already")
        self.seeds_.add(seed)
        self.states_[name] = torch.Generator().manual_seed(seed).get_state()

    @contextlib.contextmanager
    def fork(self, name: str = "model-parallel-rng") -> Iterator[None]:
        """Draw from the state ``name`` in this context, and remember where it got to."""
        outer = torch.get_rng_state()
        torch.set_rng_state(self.states_[name])
        try:
            yield
        finally:
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(outer)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    distribute_saved_activations: bool = False,
    get_rng_state_tracker: Callable[[], Any] | None = None,
    tp_group: Any = None,
    use_reentrant: bool = True,
    **kwargs: Any,
) -> Any:
    """Stands for ``transformer_engine.pytorch.distributed.checkpoint``.

    Recomputes ``function`` in the backward pass, under the random states it ran with.
    """
    if distribute_saved_activations:
        raise UnsupportedOnCpuError("recomputation with distribute_saved_activations")
    tracker = None if get_rng_state_tracker is None else get_rng_state_tracker()
    before = None if tracker is None else tracker.get_states()

    @contextlib.contextmanager
    def as_it_was() -> Iterator[None]:
        if tracker is None:
            yield
            return
        now = tracker.get_states()
        tracker.set_states(dict(before or {}))
        try:
            yield
        finally:
            tracker.set_states(now)

    return torch.utils.checkpoint.checkpoint(
        function,
        *args,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), as_it_was()),
        **kwargs,
    )


def activation_recompute_forward(*args: Any, **kwargs: Any) -> contextlib.nullcontext[None]:
    """Stands for ``transformer_engine.pytorch.distributed.activation_recompute_forward``."""
    return contextlib.nullcontext()
