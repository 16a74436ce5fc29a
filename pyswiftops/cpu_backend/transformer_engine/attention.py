"""``transformer_engine.pytorch.DotProductAttention`` over torch's own attention."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError
from pyswiftops.cpu_backend.transformer_engine.layers import TransformerEngineBaseModule

# From each layout to [batch, heads, sequence, dim], and back.
_TO_HEADS = {"sbhd": (1, 2, 0, 3), "bshd": (0, 2, 1, 3)}
_FROM_HEADS = {"sbhd": (2, 0, 1, 3), "bshd": (0, 2, 1, 3)}
_REFUSED_OPTIONS = ("core_attention_bias", "alibi_slopes", "num_splits", "inference_params")


class _Pattern(NamedTuple):
    """Which keys a query may see by its position.

    ``causal`` aligns the diagonal at the top left, ``causal_bottom_right`` at the bottom
    right. ``window`` is (left, right) around the diagonal, -1 for unbounded.
    """

    mask_type: str
    window: tuple[int, int] | None

    @property
    def is_plain_causal(self) -> bool:
        """Whether torch's own ``is_causal`` says it all."""
        causal = self.mask_type in {"causal", "padding_causal"}
        return causal and self.window in {None, (-1, -1), (-1, 0)}

    def visible(self, queries: int, keys: int) -> Any:
        """A boolean ``[queries, keys]``, or None where every key may be seen."""
        left, right = self.window or (-1, -1)
        if "causal" in self.mask_type:
            right = 0
        if left < 0 and right < 0:
            return None
        shift = keys - queries if "bottom_right" in self.mask_type else 0
        distance = torch.arange(keys)[None, :] - torch.arange(queries)[:, None] - shift
        allowed = torch.ones(queries, keys, dtype=torch.bool)
        if left >= 0:
            allowed &= distance >= -left
        if right >= 0:
            allowed &= distance <= right
        return allowed


class DotProductAttention(TransformerEngineBaseModule):
    """Stands for ``transformer_engine.pytorch.DotProductAttention``.

    Shapes: query ``[s, b, heads, dim]`` (``sbhd``), ``[b, s, heads, dim]`` (``bshd``) or
    ``[tokens, heads, dim]`` (``thd``, sequences packed one after the other); key and value
    may have fewer heads (grouped-query attention). The result has heads and dim flattened
    into one. In masks True hides a key, and they count only with the mask types
    ``padding*`` and ``arbitrary``, as upstream. Context parallelism, attention biases,
    learnable softmax offsets and maximum logits are refused.
    """

    def __init__(
        self,
        num_attention_heads: int,
        kv_channels: int | tuple[int, int],
        num_gqa_groups: int | None = None,
        *,
        attention_dropout: float = 0.0,
        attn_mask_type: str = "causal",
        window_size: tuple[int, int] | None = None,
        tp_group: Any = None,
        tp_size: int = 1,
        get_rng_state_tracker: Callable[[], Any] | None = None,
        softmax_scale: float | None = None,
        cp_group: Any = None,
        softmax_type: str = "vanilla",
        return_max_logit: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if softmax_type != "vanilla" or return_max_logit:
            raise UnsupportedOnCpuError("a softmax offset or the maximum attention logit")
        self.tp_group, self.softmax_scale = tp_group, softmax_scale
        self.attention_dropout, self.rng_tracker = attention_dropout, get_rng_state_tracker
        self.attn_mask_type, self.window_size = attn_mask_type, window_size
        self.set_context_parallel_group(cp_group)

    def set_context_parallel_group(
        self, cp_group: Any, cp_global_ranks: Any = None, *args: Any
    ) -> None:
        """Accept groups of one rank alone."""
        groups = cp_group if isinstance(cp_group, list) else [cp_group]
        if any(group is not None and group.size() > 1 for group in groups):
            raise UnsupportedOnCpuError(
                "context parallelism", "set context_parallel_size to 1, or use `device: gpu`"
            )
        self.cp_group = cp_group

    def forward(
        self,
        query_layer: Any,
        key_layer: Any,
        value_layer: Any,
        attention_mask: Any = None,
        *,
        qkv_format: str = "sbhd",
        cu_seqlens_q: Any = None,
        cu_seqlens_kv: Any = None,
        cu_seqlens_q_padded: Any = None,
        cu_seqlens_kv_padded: Any = None,
        attn_mask_type: str | None = None,
        window_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> Any:
        """Attention of each query over the keys it may see; shapes as in the class."""
        for name in _REFUSED_OPTIONS:
            if options.get(name) is not None:
                raise UnsupportedOnCpuError(f"attention with {name}")
        mask_type = attn_mask_type or self.attn_mask_type
        pattern = _Pattern(mask_type, window_size or self.window_size)
        if qkv_format == "thd":
            return self._packed(
                (query_layer, key_layer, value_layer),
                _ranges(cu_seqlens_q, cu_seqlens_q_padded),
                _ranges(cu_seqlens_kv, cu_seqlens_kv_padded),
                pattern,
            )
        order = _TO_HEADS[qkv_format]
        query, key, value = (x.permute(order) for x in (query_layer, key_layer, value_layer))
        masked = "padding" in mask_type or mask_type == "arbitrary"
        out = self._attend(query, key, value, pattern, attention_mask if masked else None)
        return out.permute(_FROM_HEADS[qkv_format]).flatten(-2)

    def _packed(
        self,
        layers: tuple[Any, Any, Any],
        query_ranges: list[slice],
        key_ranges: list[slice],
        pattern: _Pattern,
    ) -> Any:
        """Attention within each packed sequence; rows between sequences become zero."""
        query, key, value = layers
        out = query.new_zeros(query.shape[0], query.shape[1], value.shape[-1])
        for rows, columns in zip(query_ranges, key_ranges, strict=True):
            if rows.start == rows.stop:
                continue
            attended = self._attend(
                query[rows].transpose(0, 1)[None],
                key[columns].transpose(0, 1)[None],
                value[columns].transpose(0, 1)[None],
                pattern,
            )
            out[rows] = attended[0].transpose(0, 1)
        return out.flatten(-2)

    def _attend(
        self, query: Any, key: Any, value: Any, pattern: _Pattern, hidden: Any = None
    ) -> Any:
        """``[batch, heads, sequence, dim]``, with ``hidden`` True where keys are masked."""
        causal = hidden is None and pattern.is_plain_causal
        allowed = None if causal else pattern.visible(query.shape[2], key.shape[2])
        if hidden is not None:
            shown = ~_joined(hidden).bool()
            allowed = shown if allowed is None else shown & allowed
            # A padded query sees nothing; let it see all, so that it is not NaN. Its
            # output is ignored: no loss is computed on padding.
            allowed = allowed | ~allowed.any(-1, keepdim=True)
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=allowed,
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=causal,
            scale=self.softmax_scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )


def _joined(hidden: Any) -> Any:
    """One mask from upstream's pair for cross attention (queries', keys'), or the mask."""
    if not isinstance(hidden, tuple):
        return hidden
    queries, keys = hidden
    return queries.transpose(-1, -2) | keys


def _ranges(cu_seqlens: Any, padded: Any) -> list[slice]:
    """Where each packed sequence lies: its start (padding counted), and its true length."""
    ends = [int(end) for end in cu_seqlens]
    starts = ends if padded is None else [int(start) for start in padded]
    lengths = [end - start for start, end in itertools.pairwise(ends)]
    return [
        slice(start, start + length) for start, length in zip(starts[:-1], lengths, strict=True)
    ]


class SplitAlongDim:
    """Stands for ``transformer_engine.pytorch.utils.SplitAlongDim``, used as ``.apply``."""

    @staticmethod
    def apply(
        mixed_x_layer: Any, split_dim: int, split_size_or_sections: Any, squeeze: bool = False
    ) -> tuple[Any, ...]:
        """Views of the tensor, cut along ``split_dim``."""
        sections = split_size_or_sections
        if not isinstance(sections, int):
            sections = list(sections)
        parts: tuple[Any, ...] = torch.split(mixed_x_layer, sections, dim=split_dim)
        return tuple(part.squeeze(split_dim) for part in parts) if squeeze else parts


def apply_rotary_pos_emb(*args: Any, **kwargs: Any) -> Any:
    """Stands for ``transformer_engine.pytorch.attention.rope.apply_rotary_pos_emb``."""
    raise UnsupportedOnCpuError(
        "the fused rotary embedding", "pass `--apply_rope_fusion false`, or use `device: gpu`"
    )
