"""An export held to its checkpoint: what is right passes, and every wrong tensor is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from pyswiftops.checkpoints import proof
from pyswiftops.checkpoints.names import Heads, part_of, rows_of

pytestmark = pytest.mark.slow  # torch

HIDDEN, FFN, HEADS, GROUPS, SIZE, LAYERS, VOCABULARY, PADDED = 8, 12, 4, 2, 4, 3, 10, 16
CONFIG = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": SIZE,
}
Tensors = dict[str, torch.Tensor]


def hugging_face() -> Tensors:
    """A small decoder with random weights."""
    torch.manual_seed(0)
    found = {
        "model.embed_tokens.weight": torch.rand(VOCABULARY, HIDDEN),
        "model.norm.weight": torch.rand(HIDDEN),
        "lm_head.weight": torch.rand(VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        own = {
            "self_attn.q_proj.weight": torch.rand(HEADS * SIZE, HIDDEN),
            "self_attn.k_proj.weight": torch.rand(GROUPS * SIZE, HIDDEN),
            "self_attn.v_proj.weight": torch.rand(GROUPS * SIZE, HIDDEN),
            "self_attn.q_proj.bias": torch.rand(HEADS * SIZE),
            "self_attn.k_proj.bias": torch.rand(GROUPS * SIZE),
            "self_attn.v_proj.bias": torch.rand(GROUPS * SIZE),
            "self_attn.o_proj.weight": torch.rand(HIDDEN, HEADS * SIZE),
            "input_layernorm.weight": torch.rand(HIDDEN),
            "post_attention_layernorm.weight": torch.rand(HIDDEN),
            "mlp.gate_proj.weight": torch.rand(FFN, HIDDEN),
            "mlp.up_proj.weight": torch.rand(FFN, HIDDEN),
            "mlp.down_proj.weight": torch.rand(HIDDEN, FFN),
        }
        found |= {f"model.layers.{layer}.{name}": value for name, value in own.items()}
    return found


def fused(own: Callable[[str], torch.Tensor], ending: str) -> torch.Tensor:
    """Query, key and value rows, a group after the other, as megatron-core's attention has them."""
    q, k, v = (own(f"self_attn.{which}_proj.{ending}") for which in "qkv")
    each = HEADS // GROUPS * SIZE
    rows = []
    for group in range(GROUPS):
        rows += [q[group * each : (group + 1) * each]]
        rows += [part[group * SIZE : (group + 1) * SIZE] for part in (k, v)]
    return torch.cat(rows)


def megatron(weights: Tensors) -> Tensors:
    """The same as megatron-core names and stacks it, with a padded vocabulary."""

    def stacked(make: Callable[[Callable[[str], torch.Tensor]], torch.Tensor]) -> torch.Tensor:
        layers = range(LAYERS)
        return torch.stack([make(lambda n, i=i: weights[f"model.layers.{i}.{n}"]) for i in layers])

    def padded(value: torch.Tensor) -> torch.Tensor:
        return torch.cat([value, torch.zeros(PADDED - VOCABULARY, HIDDEN)])

    attention, mlp = "decoder.layers.self_attention", "decoder.layers.mlp"
    return {
        "embedding.word_embeddings.weight": padded(weights["model.embed_tokens.weight"]),
        "output_layer.weight": padded(weights["lm_head.weight"]),
        "decoder.final_layernorm.weight": weights["model.norm.weight"],
        f"{attention}.linear_qkv.weight": stacked(lambda own: fused(own, "weight")),
        f"{attention}.linear_qkv.bias": stacked(lambda own: fused(own, "bias")),
        f"{attention}.linear_qkv.layer_norm_weight": stacked(
            lambda own: own("input_layernorm.weight")
        ),
        f"{attention}.linear_proj.weight": stacked(lambda own: own("self_attn.o_proj.weight")),
        f"{mlp}.linear_fc1.weight": stacked(
            lambda own: torch.cat([own("mlp.gate_proj.weight"), own("mlp.up_proj.weight")])
        ),
        f"{mlp}.linear_fc1.layer_norm_weight": stacked(
            lambda own: own("post_attention_layernorm.weight")
        ),
        f"{mlp}.linear_fc2.weight": stacked(lambda own: own("mlp.down_proj.weight")),
        "optimizer.state.exp_avg.decoder.final_layernorm.weight": torch.rand(HIDDEN),
    }


class Place:
    """A checkpoint and an export of it in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.export, self.model = folder / "export", folder / "model"
        for path in (self.export, self.model):
            path.mkdir()
        (self.model / "config.json").write_text(json.dumps(CONFIG))

    def save(self, tensors: Tensors, **args: object) -> None:
        """Write the checkpoint, as torch does."""
        target = self.folder / "checkpoint-10" / "iter_0000010"
        dcp.save(tensors, checkpoint_id=target, no_dist=True)
        (target.parent / "args.json").write_text(json.dumps(args))

    def prove(self, *more: str) -> int:
        """The program's exit code."""
        words = ["--checkpoint", str(self.folder / "checkpoint-10"), "--export", str(self.export)]
        return proof.main([*words, "--config", str(self.model), *more])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_whole_weights_are_the_same_bits(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    weights = hugging_face()
    place.save(megatron(weights))
    save_file(weights, place.export / "model.safetensors")
    assert place.prove("--all") == 0
    assert f"compared {len(weights)} of {len(weights)} tensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("self_attn.k_proj.weight", "self_attn.v_proj.weight"),
        ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        ("input_layernorm.weight", "post_attention_layernorm.weight"),
        ("self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    ],
)
def test_two_that_changed_places_are_named(
    place: Place, capsys: pytest.CaptureFixture[str], one: str, other: str
) -> None:
    weights = hugging_face()
    place.save(megatron(weights))
    names = [f"model.layers.2.{name}" for name in (one, other)]
    swapped = {**weights, names[0]: weights[names[1]], names[1]: weights[names[0]]}
    save_file(swapped, place.export / "model.safetensors")
    assert place.prove() == 1
    said = capsys.readouterr().out
    assert all(f"error: {name} differs" in said for name in names)


def test_one_bit_is_enough(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    weights = hugging_face()
    place.save(megatron(weights))
    value = weights["model.layers.1.mlp.down_proj.weight"].clone()
    value[3, 5] = torch.nextafter(value[3, 5], torch.tensor(9.0))
    save_file(
        {**weights, "model.layers.1.mlp.down_proj.weight": value},
        place.export / "model.safetensors",
    )
    assert place.prove("--all") == 1
    assert "model.layers.1.mlp.down_proj.weight differs" in capsys.readouterr().out


def lora(weights: Tensors, *, scale: float) -> tuple[Tensors, Tensors, Tensors]:
    """Adapters as Megatron saves them, the merged model, and the adapters as PEFT names them."""
    torch.manual_seed(1)
    rank, adapters, merged, apart = 2, {}, dict(weights), {}
    for name, rows in (("self_attention.linear_proj", HIDDEN), ("mlp.linear_fc1", 2 * FFN)):
        columns = HEADS * SIZE if "proj" in name else HIDDEN
        a, b = torch.rand(LAYERS, rank, columns), torch.rand(LAYERS, rows, rank)
        stem = f"decoder.layers.{name}"
        adapters |= {f"{stem}.lora_A.default.weight": a, f"{stem}.lora_B.default.weight": b}
        parts = {"self_attn.o_proj": slice(None)}
        if "fc1" in name:
            parts = {"mlp.gate_proj": slice(FFN), "mlp.up_proj": slice(FFN, None)}
        for layer in range(LAYERS):
            for part, cut in parts.items():
                key = f"model.layers.{layer}.{part}"
                merged[f"{key}.weight"] = weights[f"{key}.weight"] + scale * (
                    b[layer, cut] @ a[layer]
                )
                peft = f"base_model.model.{key}"
                apart[f"{peft}.lora_A.weight"] = a[layer].clone()
                apart[f"{peft}.lora_B.weight"] = b[layer, cut].clone()
    return adapters, merged, apart


def test_merged_adapters_are_held_to_the_scale_of_the_checkpoint(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = hugging_face()
    adapters, merged, _ = lora(weights, scale=4.0)
    place.save(adapters, lora_rank=2, lora_alpha=8)
    save_file(weights, place.model / "model.safetensors")
    save_file(merged, place.export / "model.safetensors")
    assert place.prove("--all", "--base", str(place.model)) == 0
    save_file(weights, place.export / "model.safetensors")  # never merged
    assert place.prove("--base", str(place.model)) == 1
    assert "self_attn.o_proj.weight differs" in capsys.readouterr().out


def test_adapters_alone_are_the_same_bits(place: Place) -> None:
    weights = hugging_face()
    adapters, _, apart = lora(weights, scale=4.0)
    place.save(adapters, lora_rank=2, lora_alpha=8)
    save_file(apart, place.export / "adapter_model.safetensors")
    assert place.prove("--all", "--adapters") == 0
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    save_file({**apart, name: apart[name] + 1}, place.export / "adapter_model.safetensors")
    assert place.prove("--all", "--adapters") == 1


def test_what_no_rule_knows_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.save(megatron(hugging_face()))
    save_file({"visual.patch_embed.weight": torch.rand(2)}, place.export / "model.safetensors")
    assert place.prove() == 0
    said = capsys.readouterr().out
    assert "not compared, as no rule knows them: 1: visual.patch_embed.weight" in said
    assert "nothing is proven" in said


def test_a_missing_index_is_an_error(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    weights = hugging_face()
    place.save(megatron(weights))
    save_file(weights, place.export / "model.safetensors")
    (place.folder / "checkpoint-10" / "iter_0000010" / ".metadata").unlink()
    assert place.prove() == 1
    assert "cannot be compared" in capsys.readouterr().err


def test_rows_of_a_group() -> None:
    heads = Heads(query=4, groups=2, size=1)
    assert rows_of("q", 8, heads, 0) == [0, 1, 4, 5]
    assert rows_of("k", 8, heads, 0) == [2, 6]
    assert rows_of("v", 8, heads, 0) == [3, 7]
    with pytest.raises(ValueError, match="9 rows"):
        rows_of("q", 9, heads, 0)


def test_experts_have_their_own_index() -> None:
    part = part_of("model.layers.3.mlp.experts.7.up_proj.weight")
    assert part is not None
    assert (part.layer, part.expert, part.cut) == (3, 7, "up")
