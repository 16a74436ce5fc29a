"""``transformer_engine.pytorch.GroupedLinear``: the experts of one MoE layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows
from torch import nn

from pyswiftops.cpu_backend.transformer_engine.layers import (
    TransformerEngineBaseModule,
    new_weight,
    refuse,
)


class GroupedLinear(TransformerEngineBaseModule):
    """Stands for ``transformer_engine.pytorch.GroupedLinear``.

    ``num_gemms`` linear layers with parameters ``weight0``, ``bias0``, ``weight1``, ...,
    each ``[out_features, in_features]``. Like upstream's, it does not communicate.
    """

    def __init__(
        self,
        num_gemms: int,
        in_features: int,
        out_features: int,
        *,
        sequence_parallel: bool = False,
        fuse_wgrad_accumulation: bool = False,
        tp_group: Any = None,
        tp_size: int = 1,
        get_rng_state_tracker: Callable[[], Any] | None = None,
        rng_tracker_name: str | None = None,
        init_method: Callable[[Any], Any] | None = None,
        bias: bool = True,
        return_bias: bool = False,
        params_dtype: Any = None,
        parallel_mode: str | None = None,
        device: Any = "cpu",
        **flags: Any,
    ) -> None:
        super().__init__()
        refuse({"fuse_wgrad_accumulation": fuse_wgrad_accumulation, **flags})
        self.tp_group, self.tp_size, self.parallel_mode = tp_group, tp_size, parallel_mode
        self.num_gemms = num_gemms
        self.in_features = in_features // (tp_size if parallel_mode == "row" else 1)
        self.out_features = out_features // (tp_size if parallel_mode == "column" else 1)
        self.use_bias, self.return_bias = bias, return_bias
        self.apply_bias = bias and not return_bias
        for index in range(num_gemms):
            weight = new_weight(
                (self.out_features, self.in_features),
                dtype=params_dtype,
                device=device,
                init_method=init_method,
                rng_tracker=get_rng_state_tracker,
                rng_tracker_name=rng_tracker_name,
            )
            self.register_parameter(f"weight{index}", weight)
            if bias:
                zeros = torch.zeros(self.out_features, dtype=params_dtype, device=device)
                self.register_parameter(f"bias{index}", nn.Parameter(zeros))

    def forward(
        self, inp: Any, m_splits: Sequence[int], is_first_microbatch: bool | None = None
    ) -> Any:
        """``[tokens, in]`` to ``[tokens, out]``; expert i gets the next ``m_splits[i]`` rows."""
        outputs = []
        for index, rows in enumerate(torch.split(inp, [int(size) for size in m_splits])):
            weight = getattr(self, f"weight{index}").to(rows.dtype)
            bias = getattr(self, f"bias{index}").to(rows.dtype) if self.apply_bias else None
            outputs.append(F.linear(rows, weight, bias))
        y = torch.cat(outputs)
        if not self.return_bias:
            return y
        return y, [getattr(self, f"bias{index}") for index in range(self.num_gemms)]
