"""Models of a few hundred kB with random weights, and rows: everything but their size is real."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from pyswiftops.client import Client
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

STEPS, SAVED, ROWS, BATCH = 4, 2, 24, 4
VOCABULARY = 512
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}


def _tokenizer() -> PreTrainedTokenizerFast:
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = bytes_
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [f"user assistant system hello world how are you {number}" for number in range(500)]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=bytes_.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = CHAT
    return fast


def make_model(folder: Path, *, experts: bool = False) -> Path:
    """Write a Qwen3-like model, dense or a mixture of experts, as an HF checkpoint."""
    tokenizer = _tokenizer()
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = (
        Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **EXPERTS, **ends))
        if experts
        else Qwen3ForCausalLM(Qwen3Config(**SIZES, **ends))
    )
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(path: Path, count: int = 24) -> Path:
    """Write rows of different lengths."""
    rows = (
        [
            {"role": "user", "content": f"hello {number}"},
            {"role": "assistant", "content": f"world {number} " * (1 + number % 3)},
        ]
        for number in range(count)
    )
    text = "".join(json.dumps({"messages": messages}) + "\n" for messages in rows)
    path.write_text(text, encoding="utf-8")
    return path


@dataclass
class Place:
    """Two local nodes, models and rows that both see."""

    folder: Path
    fleet: Fleet
    client: Client

    def spec(self, name: str, *, tuner: str = "full", moe: bool = False, **more: Any) -> RunSpec:
        """A run of four steps that saves after the second and the last."""
        run: dict[str, Any] = {
            "name": name,
            "model": {
                "path": str(self.folder / "shared" / ("moe" if moe else "dense")),
                "model_type": "qwen3_moe" if moe else "qwen3",
                "template": "chatml",
            },
            "data": {"train": [str(self.folder / "shared" / "rows.jsonl")], "max_length": 64},
            "method": {"tuner": tuner, "lora": {"dropout": 0.1}},  # dropout needs the random state
            "training": {
                "iterations": STEPS,
                "micro_batch_size": 2,
                "global_batch_size": BATCH,
                "save_every": SAVED,
                "learning_rate": 1e-3,
            },
            "parallel": {"pipeline": 2},
            **more,
        }
        return RunSpec.from_document({"run": run}, self.folder / "run.yml")

    def apply(self, spec: RunSpec, *stages: str) -> None:
        """Stages of a run, one after the other."""
        for stage in stages:
            self.client.apply(self.client.plan(self.fleet, spec), stages=[stage])

    def on(self, number: int, run: str) -> Path:
        """A run's folder on a node."""
        return self.folder / "nodes" / f"node-{number}" / "runs" / run

    def share_base(self, run: str, other: str) -> None:
        """Take the base model that another run has converted."""
        for number in (1, 2):
            self.on(number, run).mkdir(parents=True)
            (self.on(number, run) / "mcore").symlink_to(self.on(number, other) / "mcore")

    def steps(self, run: str) -> dict[str, dict[str, Any]]:
        """The training log's lines by step, as ``3/4``; without what depends on the clock."""
        return steps_of(self.on(2, run))


def steps_of(run: Path) -> dict[str, dict[str, Any]]:
    """The steps that the node of the last rank logged, as it logged each last.

    A writer that was killed may have left half a line.
    """
    path = run / "train" / "logging.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.count("{") == 1 and line.endswith("}")]
    told = ("loss", "grad_norm", "learning_rate")
    return {row["iteration"]: {key: row[key] for key in told} for row in rows if "loss" in row}


def make_place(folder: Path, *, spare: bool = False) -> Place:
    """Two local CPU nodes, with both models and the rows where they see them; and a spare."""
    shared = folder / "shared"
    shared.mkdir()
    make_model(shared / "dense")
    make_model(shared / "moe", experts=True)
    make_rows(shared / "rows.jsonl", ROWS)
    fleet: dict[str, Any] = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "nodes",
        "shared_paths": [str(shared)],
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    if spare:
        fleet["nodes"].append({"name": "node-3", "spare": True})
    made = Fleet.from_document(fleet, folder / "fleet.yml")
    return Place(folder, made, Client(folder / "runs"))
