"""Linear layers and norms: ``transformer_engine.pytorch.{Linear,LayerNormLinear,...}``.

Shapes: activations are ``[..., features]`` (Megatron passes ``[sequence, batch, hidden]``);
weights are ``[out_features, in_features]``, already this rank's shard. Weights compute in
the dtype of the activations. There is no fp8, no fused weight gradient and no
communication overlap; flags that ask for those are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows
from torch import nn

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError

REFUSED_FLAGS = (
    "delay_wgrad_compute",
    "fuse_wgrad_accumulation",
    "symmetric_ar_type",
    "ub_bulk_dgrad",
    "ub_bulk_wgrad",
    "ub_overlap_ag",
    "ub_overlap_rs",
    "ub_overlap_rs_dgrad",
)
"""Arguments of upstream's constructors that must stay false here."""


def refuse(flags: dict[str, Any]) -> None:
    """Raise if a flag is on that only the real layers can honour."""
    for name in REFUSED_FLAGS:
        if flags.get(name):
            raise UnsupportedOnCpuError(
                f"Transformer Engine's {name}",
                "switch it off (`--gradient_accumulation_fusion false`, no communication "
                "overlap), or use `device: gpu`",
            )


def parallel_mappings() -> Any:
    """Megatron's differentiable collectives; imported late, as it imports these layers."""
    from megatron.core.tensor_parallel import mappings  # noqa: PLC0415

    return mappings


def normal_init(weight: Any) -> None:
    """Upstream's default: N(0, 0.023)."""
    nn.init.normal_(weight, mean=0.0, std=0.023)


def new_weight(
    shape: tuple[int, ...],
    *,
    dtype: Any,
    device: Any,
    init_method: Callable[[Any], Any] | None,
    rng_tracker: Callable[[], Any] | None = None,
    rng_tracker_name: str | None = None,
) -> Any:
    """A parameter of ``shape``, initialised under the tracked random state if there is one."""
    weight = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
    if weight.is_meta:
        return weight
    fork: Any = contextlib.nullcontext()
    if rng_tracker is not None:
        fork = rng_tracker().fork(rng_tracker_name) if rng_tracker_name else rng_tracker().fork()
    with fork, torch.no_grad():
        (init_method or normal_init)(weight)
    return weight


class TransformerEngineBaseModule(nn.Module):  # type: ignore[misc]
    """Stands for ``transformer_engine.pytorch.module.base.TransformerEngineBaseModule``.

    The extra state, which upstream fills with fp8 scales, is an empty byte tensor: that is
    also what upstream writes without fp8.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fp8_initialized = self.fp8 = self.fp8_calibration = False
        self.fp8_meta: dict[str, Any] = {"fp8_checkpoint": False}
        self.tp_group: Any = None

    def set_tensor_parallel_group(self, tp_group: Any) -> None:
        """Name the group that column and row parallel layers talk over."""
        self.tp_group = tp_group

    def get_extra_state(self) -> Any:
        """The empty byte tensor."""
        return torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Drop fp8 scales of a checkpoint: there is no fp8 here."""

    def init_fp8_metadata(self, num_gemms: int = 1) -> None:
        """There is no fp8 here."""


class Linear(TransformerEngineBaseModule):
    """Stands for ``transformer_engine.pytorch.Linear``: ``y = x W^T + b``.

    ``parallel_mode="column"`` holds ``[out/tp, in]`` and gathers its input under sequence
    parallelism; ``"row"`` holds ``[out, in/tp]`` and reduces (or reduce-scatters) its
    output. With ``return_bias`` the bias is returned beside ``y`` and not added.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sequence_parallel: bool = False,
        fuse_wgrad_accumulation: bool = False,
        tp_group: Any = None,
        tp_size: int = 1,
        get_rng_state_tracker: Callable[[], Any] | None = None,
        init_method: Callable[[Any], Any] | None = None,
        bias: bool = True,
        return_bias: bool = False,
        params_dtype: Any = None,
        parallel_mode: str | None = None,
        device: Any = "cpu",
        rng_tracker_name: str | None = None,
        **flags: Any,
    ) -> None:
        super().__init__()
        refuse({"fuse_wgrad_accumulation": fuse_wgrad_accumulation, **flags})
        self.tp_group, self.tp_size, self.parallel_mode = tp_group, tp_size, parallel_mode
        self.sequence_parallel = bool(sequence_parallel) and tp_size > 1
        self.in_features = in_features // (tp_size if parallel_mode == "row" else 1)
        self.out_features = out_features // (tp_size if parallel_mode == "column" else 1)
        self.use_bias, self.return_bias = bias, return_bias
        self.fuse_wgrad_accumulation = False
        self.ub_name = flags.get("ub_name")
        self.weight_names, self.bias_names = ["weight"], ["bias"]
        self.weight = new_weight(
            (self.out_features, self.in_features),
            dtype=params_dtype,
            device=device,
            init_method=init_method,
            rng_tracker=get_rng_state_tracker,
            rng_tracker_name=rng_tracker_name,
        )
        self.bias = (
            nn.Parameter(torch.zeros(self.out_features, dtype=params_dtype, device=device))
            if bias
            else None
        )
        self._mark_shards()

    def _mark_shards(self) -> None:
        """Set the attributes by which Megatron knows sharded and sequence-parallel weights."""
        sharded = [self.weight] if self.parallel_mode in ("column", "row") else []
        if self.bias is not None and self.parallel_mode == "column":
            sharded.append(self.bias)
        for parameter in sharded:
            parameter.tensor_model_parallel = True
            parameter.partition_dim = 0 if self.parallel_mode == "column" else 1
            parameter.partition_stride = 1
        if self.bias is not None and self.parallel_mode == "row":
            self.bias.sequence_parallel = self.sequence_parallel

    def _gather(self, x: Any) -> Any:
        """The whole input of a column parallel layer, from this rank's part of it."""
        if self.parallel_mode != "column" or self.tp_size == 1:
            return x
        mappings = parallel_mappings()
        if self.sequence_parallel:
            return mappings.gather_from_sequence_parallel_region(x, group=self.tp_group)
        return mappings.copy_to_tensor_model_parallel_region(x, group=self.tp_group)

    def _reduce(self, y: Any) -> Any:
        """The output of a row parallel layer, from this rank's summand."""
        if self.parallel_mode != "row" or self.tp_size == 1:
            return y
        mappings = parallel_mappings()
        if self.sequence_parallel:
            return mappings.reduce_scatter_to_sequence_parallel_region(y, group=self.tp_group)
        return mappings.reduce_from_tensor_model_parallel_region(y, group=self.tp_group)

    def multiply(self, x: Any) -> Any:
        """``x W^T`` with this layer's communication, and the bias where it is applied."""
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None or self.return_bias else self.bias.to(x.dtype)
        if self.parallel_mode == "row" and self.tp_size > 1:
            y = self._reduce(F.linear(x, weight))
            return y if bias is None else y + bias
        return F.linear(self._gather(x), weight, bias)

    def forward(self, inp: Any, is_first_microbatch: bool | None = None, **kwargs: Any) -> Any:
        """``[..., in]`` to ``[..., out]``, or that and the bias with ``return_bias``."""
        y = self.multiply(inp)
        return (y, self.bias) if self.return_bias else y


def normalise(x: Any, weight: Any, bias: Any, eps: float, *, zero_centered: bool) -> Any:
    """Normalise the last dimension in float32: LayerNorm with a bias, RMSNorm with None.

    ``zero_centered`` weights are stored minus one, as upstream's ``zero_centered_gamma``.
    """
    scale = weight.float()
    if zero_centered:
        scale = scale + 1
    wide, shape = x.float(), x.shape[-1:]
    if bias is None:
        return F.rms_norm(wide, shape, scale, eps).to(x.dtype)
    return F.layer_norm(wide, shape, scale, bias.float(), eps).to(x.dtype)


class RMSNorm(nn.Module):  # type: ignore[misc]
    """Stands for ``transformer_engine.pytorch.RMSNorm``: ``[..., hidden]`` to the same.

    Has no extra state, like upstream's.
    """

    has_bias = False

    def __init__(
        self,
        hidden_size: int | None = None,
        eps: float = 1e-5,
        *,
        sequence_parallel: bool = False,
        params_dtype: Any = None,
        zero_centered_gamma: bool = False,
        device: Any = "cpu",
        normalized_shape: int | Sequence[int] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        shape = normalized_shape if hidden_size is None else hidden_size
        size = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        self.eps, self.zero_centered_gamma = eps, zero_centered_gamma
        options = {"dtype": params_dtype or dtype, "device": device}
        start = torch.zeros if zero_centered_gamma else torch.ones
        self.weight = nn.Parameter(start(size, **options))
        self.bias = nn.Parameter(torch.zeros(size, **options)) if self.has_bias else None
        for parameter in self.parameters():
            parameter.sequence_parallel = sequence_parallel

    def forward(self, x: Any) -> Any:
        """``x``, normalised over its last dimension."""
        return normalise(
            x, self.weight, self.bias, self.eps, zero_centered=self.zero_centered_gamma
        )


class LayerNorm(RMSNorm):
    """Stands for ``transformer_engine.pytorch.LayerNorm``: ``[..., hidden]`` to the same."""

    has_bias = True


class LayerNormLinear(Linear):
    """Stands for ``transformer_engine.pytorch.LayerNormLinear``: a norm, then ``Linear``.

    With ``return_layernorm_output`` the normalised input comes last in the result; LoRA
    reads it there. The norm is computed on this rank's part of the sequence.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        eps: float = 1e-5,
        *,
        sequence_parallel: bool = False,
        normalization: str = "LayerNorm",
        zero_centered_gamma: bool = False,
        return_layernorm_output: bool = False,
        return_layernorm_output_gathered: bool = False,
        params_dtype: Any = None,
        device: Any = "cpu",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            sequence_parallel=sequence_parallel,
            params_dtype=params_dtype,
            device=device,
            **kwargs,
        )
        self.eps, self.normalization = eps, normalization
        self.zero_centered_gamma = zero_centered_gamma
        self.return_layernorm_output = return_layernorm_output
        self.return_layernorm_output_gathered = return_layernorm_output_gathered
        options = {"dtype": params_dtype, "device": device}
        start = torch.zeros if zero_centered_gamma else torch.ones
        self.layer_norm_weight = nn.Parameter(start(in_features, **options))
        self.layer_norm_weight.sequence_parallel = sequence_parallel
        self.layer_norm_bias = None
        if normalization == "LayerNorm":
            self.layer_norm_bias = nn.Parameter(torch.zeros(in_features, **options))
            self.layer_norm_bias.sequence_parallel = sequence_parallel

    def forward(self, inp: Any, is_first_microbatch: bool | None = None, **kwargs: Any) -> Any:
        """``y``, then the bias with ``return_bias``, then the norm's output if asked for."""
        normed = normalise(
            inp,
            self.layer_norm_weight,
            self.layer_norm_bias,
            self.eps,
            zero_centered=self.zero_centered_gamma,
        )
        result = [self.multiply(normed)]
        if self.return_bias:
            result.append(self.bias)
        if self.return_layernorm_output:
            gathered = self.return_layernorm_output_gathered and self.sequence_parallel
            result.append(self._gather(normed) if gathered else normed)
        return tuple(result) if len(result) > 1 else result[0]
