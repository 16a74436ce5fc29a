"""Which part of which Megatron tensor a tensor of a Hugging Face decoder is; pure.

Names of megatron-core (transformer_layer.py, attention.py, mlp.py, moe/) and of the families Llama,
Qwen2, Qwen3 and their mixtures of experts in transformers. What is not known here is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_EXPERT = re.compile(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight")
_QKV = re.compile(r"self_attn\.([qkv])_proj\.(weight|bias)")
_HALF = re.compile(r"mlp\.(gate|up)_proj\.weight")
_PLAIN = {
    "self_attn.o_proj.weight": "self_attention.linear_proj.weight",
    "self_attn.o_proj.bias": "self_attention.linear_proj.bias",
    "self_attn.q_norm.weight": "self_attention.q_layernorm.weight",
    "self_attn.k_norm.weight": "self_attention.k_layernorm.weight",
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight",
    "mlp.down_proj.weight": "mlp.linear_fc2.weight",
    "mlp.gate.weight": "mlp.router.weight",
}
_TOP = {
    "model.embed_tokens.weight": "embedding.word_embeddings.weight",
    "model.norm.weight": "decoder.final_layernorm.weight",
    "lm_head.weight": "output_layer.weight",
}


@dataclass(frozen=True)
class Heads:
    """Attention heads of a model.

    Attributes:
        query: All query heads.
        groups: Key and value heads.
        size: Values of a head.
    """

    query: int
    groups: int
    size: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Heads:
        """Read ``config.json``.

        Raises:
            KeyError: it does not tell.
        """
        query = int(config["num_attention_heads"])
        groups = int(config.get("num_key_value_heads") or query)
        size = int(config.get("head_dim") or int(config["hidden_size"]) // query)
        return cls(query, groups, size)


@dataclass(frozen=True)
class Part:
    """A part of a Megatron tensor.

    Attributes:
        names: Where it may be, by megatron-core's version; the first that is there is meant.
        layer: The layer, for names that begin with ``decoder.layers.``; None elsewhere.
        expert: The expert; None elsewhere.
        cut: ``q``, ``k``, ``v`` of the fused projection, ``gate`` and ``up`` of the fused first
            layer of the MLP, ``rows`` (the first ones, of a padded vocabulary), or "" for all.
    """

    names: tuple[str, ...]
    layer: int | None = None
    expert: int | None = None
    cut: str = ""


def part_of(name: str) -> Part | None:
    """The part that a tensor of Hugging Face is; None where no rule knows it."""
    if name in _TOP:
        tied = ("embedding.word_embeddings.weight",) if name == "lm_head.weight" else ()
        cut = "" if name == "model.norm.weight" else "rows"
        return Part((_TOP[name], *tied), cut=cut)
    match = _LAYER.fullmatch(name)
    return None if match is None else _in_layer(int(match[1]), match[2])


def _in_layer(layer: int, rest: str) -> Part | None:
    found = None
    if rest in _PLAIN:
        found = Part((_PLAIN[rest],), layer)
    elif rest == "post_attention_layernorm.weight":
        found = Part(("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight"), layer)
    elif match := _QKV.fullmatch(rest):
        found = Part((f"self_attention.linear_qkv.{match[2]}",), layer, cut=match[1])
    elif match := _HALF.fullmatch(rest):
        found = Part(("mlp.linear_fc1.weight",), layer, cut=match[1])
    elif match := _EXPERT.fullmatch(rest):
        linear = "linear_fc2" if match[2] == "down" else "linear_fc1"
        cut = "" if match[2] == "down" else match[2]
        found = Part((f"mlp.experts.experts.{linear}.weight",), layer, int(match[1]), cut)
    return found


def rows_of(cut: str, total: int, heads: Heads, wanted: int) -> list[int] | None:
    """Rows of a fused tensor that a cut means; None for all of them.

    Args:
        cut: See :class:`Part`.
        total: Rows of the fused tensor.
        heads: The model's.
        wanted: Rows of the tensor that is compared.

    Raises:
        ValueError: the fused tensor has not the rows that the model's heads say.
    """
    if cut == "":
        return None
    if cut == "rows":
        return list(range(wanted))
    if cut in {"gate", "up"}:
        half = total // 2
        return list(range(half)) if cut == "gate" else list(range(half, total))
    each = heads.query // heads.groups
    group = (each + 2) * heads.size
    if total != heads.groups * group:
        raise ValueError(f"{total} rows, expected {heads.groups * group} of {heads}")
    begin, count = {"q": (0, each), "k": (each, 1), "v": (each + 1, 1)}[cut]
    return [
        number * group + begin * heads.size + row
        for number in range(heads.groups)
        for row in range(count * heads.size)
    ]
