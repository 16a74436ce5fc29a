"""``transformer_engine.pytorch.optimizers.FusedAdam`` over torch's fused CPU kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.adam import adam

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError


class FusedAdam(torch.optim.Optimizer):  # type: ignore[misc]
    """Stands for ``transformer_engine.pytorch.optimizers.FusedAdam``.

    Adam, or AdamW with ``adam_w_mode`` (the default). State per parameter: ``exp_avg`` and
    ``exp_avg_sq``, float32, of the parameter's shape; the step is counted per group, as
    Megatron's distributed optimizer expects it there. Parameters that are not float32 are
    updated in float32 and rounded back. Master weights, decoupled gradients, low-precision
    state and CUDA graphs (the "precision-aware" optimizer) are refused.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        adam_w_mode: bool = True,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        for name in ("capturable", "master_weights", "use_decoupled_grad"):
            if options.get(name):
                raise UnsupportedOnCpuError(f"FusedAdam with {name}")
        for name in ("exp_avg_dtype", "exp_avg_sq_dtype", "master_weight_dtype"):
            if options.get(name, torch.float32) is not torch.float32:
                raise UnsupportedOnCpuError(f"FusedAdam with {name} other than float32")
        if amsgrad or not bias_correction:
            raise UnsupportedOnCpuError("FusedAdam with amsgrad or without bias correction")
        defaults = {
            "lr": lr,
            "bias_correction": bias_correction,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)
        self.adam_w_mode = adam_w_mode

    def initialize_state(self, param: Any, store_param_remainders: bool = False) -> None:
        """Give ``param`` zero moments, unless it has some."""
        state = self.state[param]
        for name in ("exp_avg", "exp_avg_sq"):
            if name not in state:
                state[name] = torch.zeros_like(param, dtype=torch.float32)

    def get_unscaled_state(self, param: Any, state_name: str) -> Any:
        """A moment of ``param``; never scaled here."""
        return self.state[param][state_name]

    def set_scaled_state(self, param: Any, state_name: str, unscaled_state: Any) -> None:
        """Set a moment of ``param``; never scaled here."""
        self.state[param][state_name] = unscaled_state

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Update every parameter that has a gradient, in place."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                if group["params"]:
                    group["step"] = group.get("step", 0) + 1
                    self._update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _update(self, params: list[Any], group: dict[str, Any]) -> None:
        for param in params:
            self.initialize_state(param)
        if not params:
            return
        wide = [param if param.dtype is torch.float32 else param.float() for param in params]
        done = float(group["step"] - 1)
        adam(
            wide,
            [param.grad.float() for param in params],
            [self.state[param]["exp_avg"] for param in params],
            [self.state[param]["exp_avg_sq"] for param in params],
            [],
            [torch.tensor(done) for _ in params],  # torch counts these up by itself
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            decoupled_weight_decay=self.adam_w_mode,
        )
        for param, updated in zip(params, wide, strict=True):
            if param is not updated:
                param.copy_(updated)
