"""The stand-in attention equals softmax(QK^T)V written out, forward and backward."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError
from pyswiftops.cpu_backend.transformer_engine.attention import (
    DotProductAttention,
    SplitAlongDim,
    apply_rotary_pos_emb,
)

HEADS, DIM = 6, 8


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def written_out(query: Any, key: Any, value: Any, allowed: Any) -> Any:
    """Attention of [b, h, s, d] with keys visible where ``allowed``, one softmax at a time."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.masked_fill(~allowed, -math.inf).softmax(-1) @ value


def causal(queries: int, keys: int) -> Any:
    return torch.ones(queries, keys, dtype=torch.bool).tril()


def qkv(*shape: int, kv_heads: int = HEADS) -> list[Any]:
    heads = (HEADS, kv_heads, kv_heads)
    return [torch.randn(*shape, count, DIM, requires_grad=True) for count in heads]


def assert_same(ours: Any, theirs: Any, leaves: list[Any]) -> None:
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad((ours * weight).sum(), leaves),
        torch.autograd.grad((theirs * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("kv_heads", [HEADS, 2], ids=["mha", "gqa"])
@pytest.mark.parametrize("mask_type", ["causal", "no_mask"])
@pytest.mark.parametrize("layout", ["sbhd", "bshd"])
def test_dense_attention(layout: str, mask_type: str, kv_heads: int) -> None:
    leaves = qkv(*((10, 2) if layout == "sbhd" else (2, 10)), kv_heads=kv_heads)
    attention = DotProductAttention(HEADS, DIM, kv_heads, attn_mask_type=mask_type)
    ours = attention(*leaves, qkv_format=layout)
    heads_first = (1, 2, 0, 3) if layout == "sbhd" else (0, 2, 1, 3)
    back = (2, 0, 1, 3) if layout == "sbhd" else (0, 2, 1, 3)
    allowed = causal(10, 10) if mask_type == "causal" else torch.ones(10, 10, dtype=torch.bool)
    theirs = written_out(*(x.permute(heads_first) for x in leaves), allowed)
    assert_same(ours, theirs.permute(back).flatten(-2), leaves)


def test_dense_attention_equals_torchs_own() -> None:
    leaves = qkv(10, 2, kv_heads=3)
    ours = DotProductAttention(HEADS, DIM, 3)(*leaves)
    query, key, value = (x.permute(1, 2, 0, 3) for x in leaves)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    assert_same(ours, theirs.permute(2, 0, 1, 3).flatten(-2), leaves)


@pytest.mark.parametrize("mask_type", ["padding", "padding_causal", "arbitrary"])
def test_masked_keys_are_hidden_and_padded_queries_are_not_nan(mask_type: str) -> None:
    leaves = qkv(6, 2, kv_heads=2)
    hidden = torch.zeros(2, 1, 1, 6, dtype=torch.bool)
    hidden[1, ..., 4:] = True
    everywhere = hidden | hidden.transpose(-1, -2)
    ours = DotProductAttention(HEADS, DIM, 2)(*leaves, everywhere, attn_mask_type=mask_type)
    assert torch.isfinite(ours).all()
    allowed = ~everywhere
    if mask_type == "padding_causal":
        allowed = allowed & causal(6, 6)
    allowed = allowed | everywhere.all(-1, keepdim=True)
    theirs = written_out(*(x.permute(1, 2, 0, 3) for x in leaves), allowed)
    real = ~hidden[:, 0, 0].T
    assert_same(ours[real], theirs.permute(2, 0, 1, 3).flatten(-2)[real], leaves)


def test_masks_do_not_count_for_plain_causal_attention() -> None:
    leaves = qkv(5, 1)
    attention = DotProductAttention(HEADS, DIM)
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    torch.testing.assert_close(attention(*leaves, mask), attention(*leaves))


@pytest.mark.parametrize("padded", [False, True], ids=["tight", "padded"])
def test_packed_sequences_do_not_see_each_other(padded: bool) -> None:
    lengths, starts, total = [3, 5, 2], [0, 4, 9], 13
    if not padded:
        starts, total = [0, 3, 8], 10
    leaves = qkv(total, kv_heads=3)
    cumulated = torch.tensor([0, 3, 8, 10], dtype=torch.int32)
    with_padding = torch.tensor([*starts, total], dtype=torch.int32) if padded else None
    ours = DotProductAttention(HEADS, DIM, 3)(
        *leaves,
        qkv_format="thd",
        attn_mask_type="padding_causal",
        cu_seqlens_q=cumulated,
        cu_seqlens_kv=cumulated,
        cu_seqlens_q_padded=with_padding,
        cu_seqlens_kv_padded=with_padding,
    )
    rows = [slice(a, a + n) for a, n in zip(starts, lengths, strict=True)]
    theirs = [
        written_out(*(x[part].transpose(0, 1)[None] for x in leaves), causal(n, n))[0]
        for part, n in zip(rows, lengths, strict=True)
    ]
    flat = torch.cat([part.transpose(0, 1).flatten(-2) for part in theirs])
    assert_same(torch.cat([ours[part] for part in rows]), flat, leaves)
    used = torch.zeros(total, dtype=torch.bool)
    for part in rows:
        used[part] = True
    assert (ours[~used] == 0).all()


def test_sliding_window_hides_what_is_further_back() -> None:
    leaves = qkv(8, 1)
    ours = DotProductAttention(HEADS, DIM, window_size=(2, 0))(*leaves)
    allowed = causal(8, 8) & torch.ones(8, 8, dtype=torch.bool).triu(-2)
    theirs = written_out(*(x.permute(1, 2, 0, 3) for x in leaves), allowed)
    assert_same(ours, theirs.permute(2, 0, 1, 3).flatten(-2), leaves)


def test_bottom_right_causal_lets_the_last_query_see_all_keys() -> None:
    query = torch.randn(1, 1, HEADS, DIM)
    key, value = torch.randn(2, 5, 1, HEADS, DIM)
    attention = DotProductAttention(HEADS, DIM, attn_mask_type="causal_bottom_right")
    everything = DotProductAttention(HEADS, DIM, attn_mask_type="no_mask")
    torch.testing.assert_close(attention(query, key, value), everything(query, key, value))


def test_what_only_a_gpu_can_do_is_refused_by_name() -> None:
    class Group:
        def size(self) -> int:
            return 2

    with pytest.raises(UnsupportedOnCpuError, match="context parallelism"):
        DotProductAttention(HEADS, DIM, cp_group=Group())
    with pytest.raises(UnsupportedOnCpuError, match="core_attention_bias"):
        DotProductAttention(HEADS, DIM)(*qkv(4, 1), core_attention_bias=torch.zeros(4, 4))
    with pytest.raises(UnsupportedOnCpuError, match="apply_rope_fusion false"):
        apply_rotary_pos_emb()


def test_split_along_dim_cuts_views() -> None:
    x = torch.arange(12.0).view(2, 6)
    first, second = SplitAlongDim.apply(x, 1, [2, 4])
    assert first.data_ptr() == x.data_ptr()
    assert second.shape == (2, 4)
    assert SplitAlongDim.apply(x, 1, 1, squeeze=True)[0].shape == (2,)
