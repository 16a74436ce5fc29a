"""An export against an own reading of a real torch_dist checkpoint; what is wrong is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from pyswiftops.checkpoints import proof
from pyswiftops.checkpoints.shards import ShardError, Shards

HEADS, GROUPS, DIM, HIDDEN, FFN, LAYERS, VOCABULARY = 4, 2, 4, 16, 24, 3, 40
PADDED, RANK, ALPHA, RANKS = 48, 2, 8.0, 2
PER = HEADS // GROUPS
CONFIG = {
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "vocab_size": VOCABULARY,
    "torch_dtype": "bfloat16",
}


def fused(query: Any, key: Any, value: Any) -> Any:
    """Rows of q, k and v as Megatron has them, written as loops over groups and heads."""
    rows = []
    for group in range(GROUPS):
        heads = range(group * PER, (group + 1) * PER)
        rows += [query[head * DIM : (head + 1) * DIM] for head in heads]
        rows.append(key[group * DIM : (group + 1) * DIM])
        rows.append(value[group * DIM : (group + 1) * DIM])
    return torch.cat(rows)


def random_hf() -> dict[str, Any]:
    """A llama of three small layers."""
    torch.manual_seed(0)

    def weight(*shape: int) -> Any:
        return torch.randn(*shape).to(torch.bfloat16)

    found = {
        "model.embed_tokens.weight": weight(VOCABULARY, HIDDEN),
        "lm_head.weight": weight(VOCABULARY, HIDDEN),
        "model.norm.weight": weight(HIDDEN),
    }
    shapes = {
        "self_attn.q_proj.weight": (HEADS * DIM, HIDDEN),
        "self_attn.k_proj.weight": (GROUPS * DIM, HIDDEN),
        "self_attn.v_proj.weight": (GROUPS * DIM, HIDDEN),
        "self_attn.o_proj.weight": (HIDDEN, HEADS * DIM),
        "mlp.gate_proj.weight": (FFN, HIDDEN),
        "mlp.up_proj.weight": (FFN, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, FFN),
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        found |= {f"model.layers.{layer}.{name}": weight(*size) for name, size in shapes.items()}
    return found


def as_mcore(hf: dict[str, Any]) -> dict[str, Any]:
    """The same in Megatron's names, layers stacked, the vocabulary padded."""

    def stacked(*names: str, join: Any = torch.cat) -> Any:
        each = ([hf[f"model.layers.{n}.{name}"] for name in names] for n in range(LAYERS))
        return torch.stack([join(parts) for parts in each])

    padding = torch.zeros(PADDED - VOCABULARY, HIDDEN, dtype=torch.bfloat16)
    attention = [f"self_attn.{letter}_proj.weight" for letter in "qkv"]
    inner = "decoder.layers"
    return {
        "embedding.word_embeddings.weight": torch.cat([hf["model.embed_tokens.weight"], padding]),
        "output_layer.weight": torch.cat([hf["lm_head.weight"], padding]),
        "decoder.final_layernorm.weight": hf["model.norm.weight"],
        f"{inner}.self_attention.linear_qkv.weight": stacked(*attention, join=lambda x: fused(*x)),
        f"{inner}.self_attention.linear_qkv.layer_norm_weight": stacked("input_layernorm.weight"),
        f"{inner}.self_attention.linear_proj.weight": stacked("self_attn.o_proj.weight"),
        f"{inner}.mlp.linear_fc1.weight": stacked("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        f"{inner}.mlp.linear_fc1.layer_norm_weight": stacked("post_attention_layernorm.weight"),
        f"{inner}.mlp.linear_fc2.weight": stacked("mlp.down_proj.weight"),
        "optimizer.state.exp_avg.output_layer.weight": torch.zeros(2),
    }


def save(folder: Path, tensors: dict[str, Any], **told: Any) -> Path:
    """A torch_dist checkpoint with tracker and args.json."""
    inside = folder / "iter_0000004"
    inside.mkdir(parents=True)
    dcp.save(tensors, checkpoint_id=str(inside), no_dist=True)
    (folder / "latest_checkpointed_iteration.txt").write_text("4", encoding="utf-8")
    (folder / "args.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def model(folder: Path, tensors: dict[str, Any]) -> Path:
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return folder


def look(place: Path, **more: Any) -> Any:
    how = {"form": "hf", "lora": False, "every": True, "seed": 1, **more}
    return proof.prove(place / "ck", place / "out", place / "base", **how)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    hf = random_hf()
    model(tmp_path / "base", hf)
    model(tmp_path / "out", hf)
    save(tmp_path / "ck", as_mcore(hf))
    return tmp_path


def spoil(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_right_export_is_proved_tensor_by_tensor(full: Path) -> None:
    report = look(full)
    assert report.proved
    assert (report.equal, report.not_compared, report.skipped) == (3 + 9 * LAYERS, [], 0)


def test_one_number_in_one_tensor_is_found(full: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"

    def change(tensors: dict[str, Any]) -> None:
        tensors[name][3, 5] += 1

    spoil(full / "out", change)
    report = look(full)
    assert list(report.differ) == [name]
    assert "1 numbers" in report.differ[name]


def test_swapped_queries_and_keys_are_found(full: Path) -> None:
    query, key = (f"model.layers.2.self_attn.{letter}_proj.weight" for letter in "qk")

    def change(tensors: dict[str, Any]) -> None:
        rows = GROUPS * DIM
        both = tensors[query][:rows].clone(), tensors[key].clone()
        tensors[query][:rows], tensors[key] = both[1], both[0]

    spoil(full / "out", change)
    assert set(look(full).differ) == {query, key}


def test_a_lost_tensor_and_a_wrong_vocabulary_are_found(full: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        del tensors["model.norm.weight"]
        extra = torch.zeros(1, HIDDEN, dtype=torch.bfloat16)
        tensors["model.embed_tokens.weight"] = torch.cat(
            [tensors["model.embed_tokens.weight"], extra]
        )

    spoil(full / "out", change)
    report = proof.prove(
        full / "ck", full / "out", full / "base", form="hf", lora=False, every=False, seed=1
    )
    proof.beside(full / "out", full / "base", report)
    assert f"expected {VOCABULARY} rows" in report.differ["model.embed_tokens.weight"]


def test_a_name_without_a_rule_is_told_and_nothing_compared_is_no_proof(full: Path) -> None:
    save(full / "odd", {"decoder.layers.mixer.weight": torch.zeros(2, 2)})
    report = proof.prove(
        full / "odd", full / "out", full / "base", form="hf", lora=False, every=True, seed=1
    )
    assert not report.proved
    assert "decoder.layers.mixer.weight" in report.not_compared


def test_the_sample_always_has_ends_and_is_the_same_again(full: Path) -> None:
    report = look(full, every=False)
    assert report.proved
    assert report.skipped == 0  # so small a model is compared whole


def test_a_cut_shard_is_no_proof(full: Path) -> None:
    (shard,) = (full / "ck" / "iter_0000004").glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ShardError, match="cannot read"):
        Shards(full / "ck").read("decoder.layers.mlp.linear_fc2.weight")


def lora(tmp_path: Path, dtype: Any = torch.bfloat16) -> tuple[dict[str, Any], dict[str, Any]]:
    """Base, checkpoint of adapters as two tensor ranks would save them, and HF's A and B."""
    hf = {name: tensor.to(dtype) for name, tensor in random_hf().items()}
    model(tmp_path / "base", hf)
    torch.manual_seed(1)
    tensors, apart = {}, {}
    down = {"self_attention.linear_qkv": HIDDEN, "mlp.linear_fc1": HIDDEN}
    first = {module: torch.randn(LAYERS, RANK, size) for module, size in down.items()}
    parts = {"q": HEADS * DIM, "k": GROUPS * DIM, "v": GROUPS * DIM}
    qkv, fc1 = [], []
    for layer in range(LAYERS):
        seconds = {
            f"self_attn.{part}_proj": torch.randn(rows, RANK) for part, rows in parts.items()
        }
        halves = {f"mlp.{name}_proj": torch.randn(FFN, RANK) for name in ("gate", "up")}
        qkv.append(fused(*seconds.values()))
        share = FFN // RANKS
        fc1.append(
            torch.cat(
                [
                    half[r * share : (r + 1) * share]
                    for r in range(RANKS)
                    for half in halves.values()
                ]
            )
        )
        for module, group in zip(down, (seconds, halves), strict=True):
            for name, second in group.items():
                apart[f"model.layers.{layer}.{name}"] = (first[module][layer], second)
    for module, seconds_ in zip(down, (qkv, fc1), strict=True):
        stem = f"decoder.layers.{module}"
        tensors[f"{stem}.lora_A.default.weight"] = first[module]
        tensors[f"{stem}.lora_B.default.weight"] = torch.stack(seconds_)
    save(tmp_path / "ck", tensors, lora_alpha=ALPHA, tensor_model_parallel_size=RANKS)
    return hf, apart


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_merged_lora_is_proved_and_an_unmerged_tensor_is_found(tmp_path: Path, dtype: Any) -> None:
    hf, apart = lora(tmp_path, dtype)
    out = dict(hf)
    for name, (first, second) in apart.items():
        delta = ALPHA / RANK * (second.to(dtype) @ first.to(dtype))
        out[f"{name}.weight"] = out[f"{name}.weight"] + delta.to(dtype)
    model(tmp_path / "out", out)
    report = look(tmp_path, lora=True)
    assert report.proved, report.text()
    assert report.equal == len(hf)

    wrong = "model.layers.1.self_attn.v_proj.weight"
    spoil(tmp_path / "out", lambda tensors: tensors.update({wrong: hf[wrong]}))
    assert list(look(tmp_path, lora=True).differ) == [wrong]


def test_adapters_alone_are_held_to_their_matrices(tmp_path: Path) -> None:
    _, apart = lora(tmp_path)
    tensors = {
        f"base_model.model.{name}.lora_{letter}.weight": matrix.clone()
        for name, pair in apart.items()
        for letter, matrix in zip("AB", pair, strict=True)
    }
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "adapter_model.safetensors"
    save_file(tensors, path)
    report = look(tmp_path, form="adapters", lora=True)
    assert report.proved
    assert report.equal == len(tensors)

    wrong = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    tensors[wrong] = tensors[wrong].flip(0).contiguous()
    save_file(tensors, path)
    assert list(look(tmp_path, form="adapters", lora=True).differ) == [wrong]


def test_the_program_repairs_what_was_lost_and_fails_where_a_tensor_differs(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tokenizer.json", "generation_config.json"):
        (full / "base" / name).write_text("{}", encoding="utf-8")
    words = ["--form", "hf", "--tuner", "full", "--proof", "full"]
    for key, value in {
        "checkpoint": "ck",
        "exported": "out",
        "base": "base",
        "output": "p.json",
    }.items():
        words += [f"--{key}", str(full / value)]
    assert proof.main(words) is None
    assert json.loads((full / "p.json").read_text("utf-8"))["repaired"] == [
        "generation_config.json",
        "tokenizer.json",
    ]
    assert "copied from the base: tokenizer.json" in capsys.readouterr().out

    spoil(full / "out", lambda tensors: tensors["model.norm.weight"].mul_(2))
    assert "tensors that differ" in str(proof.main(words))
    (full / "base" / "config.json").unlink()
    assert "cannot be held to its checkpoint" in str(proof.main(words))


def test_what_upstream_wrote_is_not_overwritten(full: Path) -> None:
    changed = json.dumps({**CONFIG, "torch_dtype": "float32", "rope_theta": 2})
    (full / "out" / "config.json").write_text(changed, encoding="utf-8")
    (full / "base" / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 1}), "utf-8")
    found = proof.beside(full / "out", full / "base", look(full))
    assert (full / "out" / "config.json").read_text("utf-8") == changed
    assert found.differs == ["config.json: rope_theta 1 in the base, 2 here"]
