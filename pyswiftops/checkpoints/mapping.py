"""Which tensor of Megatron (mcore) is which tensor of HF, for decoders as llama, qwen2 and qwen3.

Written from the layouts themselves and not from mcore-bridge, whose work it proves: megatron-core's
``attention.py`` (queries, keys and values interleaved by group), ``mlp.py`` (gate above up) and
``layers.py``'s stacked layers, against transformers' modeling files. Of a MoE: router, experts,
shared experts. What no rule names is reported, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

WHOLE, GATE, UP, QUERY, KEY, VALUE = "whole", "gate", "up", "q", "k", "v"

_LAYER = re.compile(r"(?:language_model\.)?decoder\.layers\.(?:(\d+)\.)?(.+)")
_EXPERTS = re.compile(r"mlp\.experts\.(?:experts\.)?(linear_fc[12])")
_TUNED = re.compile(r"(.+)\.lora_([AB])\.[^.]+\.weight")

_TOP = {
    "embedding.word_embeddings.weight": "embed_tokens.weight",
    "decoder.final_layernorm.weight": "norm.weight",
}
_GATED = {GATE: "gate_proj", UP: "up_proj"}
_LINEAR: dict[str, dict[str, str]] = {
    "self_attention.linear_qkv": {
        QUERY: "self_attn.q_proj",
        KEY: "self_attn.k_proj",
        VALUE: "self_attn.v_proj",
    },
    "self_attention.linear_proj": {WHOLE: "self_attn.o_proj"},
    "self_attention.q_layernorm": {WHOLE: "self_attn.q_norm"},
    "self_attention.k_layernorm": {WHOLE: "self_attn.k_norm"},
    "input_layernorm": {WHOLE: "input_layernorm"},
    "pre_mlp_layernorm": {WHOLE: "post_attention_layernorm"},
    "mlp.linear_fc1": {part: f"mlp.{name}" for part, name in _GATED.items()},
    "mlp.linear_fc2": {WHOLE: "mlp.down_proj"},
    "mlp.router": {WHOLE: "mlp.gate"},
    "mlp.shared_experts.linear_fc1": {
        part: f"mlp.shared_expert.{name}" for part, name in _GATED.items()
    },
    "mlp.shared_experts.linear_fc2": {WHOLE: "mlp.shared_expert.down_proj"},
}
_EXPERT = {"linear_fc1": _GATED, "linear_fc2": {WHOLE: "down_proj"}}
_SINGLE = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm.weight",
    "mlp.shared_experts.gate_weight": "mlp.shared_expert_gate.weight",
    "mlp.router.expert_bias": "mlp.gate.e_score_correction_bias",
}


class MappingError(ValueError):
    """A tensor has not the shape that its rule is for."""


@dataclass(frozen=True)
class Piece:
    """Where an HF tensor lies in mcore.

    Attributes:
        name: The tensor in HF.
        source: The tensor in mcore; of LoRA, without ``.lora_A...``.
        lead: First indices in it: layer, expert.
        part: Which part of what lies there.
        layer: The layer's number, None outside layers.
    """

    name: str
    source: str
    lead: tuple[int, ...] = ()
    part: str = WHOLE
    layer: int | None = None


@dataclass(frozen=True)
class Sizes:
    """Numbers of an HF config that the cuts need."""

    heads: int
    groups: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Sizes:
        """Read them from ``config.json``; a model of several kinds of input keeps them deeper."""
        text = config.get("text_config") or config
        heads = int(text.get("num_attention_heads") or 0)
        return cls(heads, int(text.get("num_key_value_heads") or heads))


def pieces(
    shapes: Mapping[str, tuple[int, ...]], known: Collection[str]
) -> tuple[list[Piece], list[str]]:
    """Rules for the tensors of a checkpoint.

    Args:
        shapes: mcore name -> global shape; LoRA's as ``<module>.weight`` (:func:`lora_modules`).
        known: Names of the HF model.

    Returns:
        A piece for each HF tensor, and the mcore names that no rule maps.
    """
    ends = "embed_tokens.weight"
    prefix = next((name[: -len(ends)] for name in known if name.endswith(ends)), "model.")
    found, left = [], []
    for name, shape in shapes.items():
        made = _outside(name, prefix) or _inside(name, shape, prefix)
        mapped = [piece for piece in made if piece.name in known]
        found += mapped
        if not mapped and not _tied(name, known):
            left.append(name)
    return found, left


def _tied(name: str, known: Collection[str]) -> bool:
    return name.endswith("output_layer.weight") and "lm_head.weight" not in known


def _outside(name: str, prefix: str) -> list[Piece]:
    plain = name.removeprefix("language_model.")
    if plain == "output_layer.weight":
        return [Piece("lm_head.weight", name)]
    return [Piece(prefix + _TOP[plain], name)] if plain in _TOP else []


def _inside(name: str, shape: tuple[int, ...], prefix: str) -> list[Piece]:
    """Pieces of a tensor of one layer, or of all layers stacked, and of all experts likewise."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return []
    stacked, inner = match[1] is None, match[2]
    layers = range(shape[0]) if stacked else [int(match[1])]
    expert = _EXPERTS.fullmatch(inner.rpartition(".")[0])
    axis = int(stacked)
    if expert and len(shape) <= axis + 1:
        return []
    numbers = range(shape[axis]) if expert else [None]
    found = []
    for layer in layers:
        for number in numbers:
            lead = ((layer,) if stacked else ()) + (() if number is None else (number,))
            for part, stem in _names(inner, expert, number).items():
                found.append(Piece(f"{prefix}layers.{layer}.{stem}", name, lead, part, layer))
    return found


def _names(inner: str, expert: re.Match[str] | None, number: int | None) -> dict[str, str]:
    """Part -> HF name inside a layer."""
    if inner in _SINGLE:
        return {WHOLE: _SINGLE[inner]}
    module, _, leaf = inner.rpartition(".")
    if leaf not in {"weight", "bias"}:
        return {}
    if expert:
        stems = _EXPERT[expert[1]]
        return {part: f"mlp.experts.{number}.{stem}.{leaf}" for part, stem in stems.items()}
    return {part: f"{stem}.{leaf}" for part, stem in _LINEAR.get(module, {}).items()}


def lora_modules(
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """``<module>.weight`` -> its ``A`` and ``B``; and names that are neither."""
    found: dict[str, dict[str, str]] = {}
    left = []
    for name in shapes:
        match = _TUNED.fullmatch(name)
        if match:
            found.setdefault(f"{match[1]}.weight", {})[match[2]] = name
        else:
            left.append(name)
    whole = {name: pair for name, pair in found.items() if len(pair) == len("AB")}
    left += [one for name, pair in found.items() if name not in whole for one in pair.values()]
    return whole, left


def cut(tensor: Any, part: str, sizes: Sizes) -> Any:
    """The rows of a fused tensor, ``(rows, ...)``, that are one of HF.

    Raises:
        MappingError: the rows do not fall into heads, or not into halves.
    """
    rows, rest = tensor.shape[0], tuple(tensor.shape[1:])
    if part == WHOLE:
        return tensor
    if part in _GATED:
        if rows % 2:
            raise MappingError(f"{rows} rows are no gate and up")
        return tensor[: rows // 2] if part == GATE else tensor[rows // 2 :]
    together = sizes.heads + 2 * sizes.groups
    if not together or rows % together or sizes.heads % sizes.groups:
        raise MappingError(f"{rows} rows are not {sizes.heads} and 2 x {sizes.groups} heads")
    per = sizes.heads // sizes.groups
    grouped = tensor.reshape(sizes.groups, per + 2, rows // together, *rest)
    which = {QUERY: slice(0, per), KEY: slice(per, per + 1), VALUE: slice(per + 1, per + 2)}
    return grouped[:, which[part]].reshape(-1, *rest)


def in_order(tensor: Any, part: str, ranks: int) -> Any:
    """Rows of a LoRA ``B`` of gate and up, as if one rank had held them.

    Megatron stores the base's gate and up apart, but LoRA's as each tensor rank had them: gate and
    up of the first, then of the next (read in mcore-bridge ``tuners/lora.py``, 4.6; older lines:
    inferred).
    """
    if part not in _GATED or ranks == 1:
        return tensor
    rest = tuple(tensor.shape[1:])
    if tensor.shape[0] % (2 * ranks):
        raise MappingError(f"{tensor.shape[0]} rows are no gate and up of {ranks} ranks")
    return tensor.reshape(ranks, 2, -1, *rest).transpose(0, 1).reshape(-1, *rest)
