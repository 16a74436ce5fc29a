"""A training command as a run file, and the run file's command again."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pyswiftops.errors import BadInputError
from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.translate import translate
from pyswiftops.translate.run_file import run_document, run_text

COMMAND = """
NNODES=2 NPROC_PER_NODE=8 NCCL_IB_HCA=mlx5_0 megatron sft --model /models/m \\
  --dataset /data/a.jsonl '/data/b.jsonl#500' --tuner_type lora --lora_rank 16 \\
  --target_modules linear_qkv linear_proj --tensor_model_parallel_size 4 --sequence_parallel true \\
  --micro_batch_size 2 --global_batch_size 32 --num_train_epochs 1 --lr 1e-5 --min_lr 1e-6 \\
  --recompute_granularity full --recompute_method uniform --recompute_num_layers 1 \\
  --max_length 4096 --save_steps 100 --no_save_optim true --no_save_rng true \\
  --report_to wandb --wandb_project p --output_dir out --packing true
"""


def test_the_run_file_renders_the_same_flags_again(tmp_path: Path) -> None:
    (found,) = translate(COMMAND, "4.6", "4.6")
    document, notes = run_document(found, "r")
    spec = RunSpec.from_document(yaml.safe_load(run_text(document)), tmp_path / "run.yml")
    nodes = [{"name": f"n-{n}", "address": f"10.0.0.{n}", "gpus": 8} for n in (1, 2)]
    fleet = {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "root": "/r", "nodes": nodes}
    plan = make_plan(Fleet.from_document(fleet, tmp_path / "fleet.yml"), spec, "r")
    argv = [str(word) for word in plan.jobs["train"][0].argv]
    for flag, words in found.flags.items():
        if flag == "output_dir":
            continue  # the pipeline's own
        place = argv.index(f"--{flag}")
        rendered = argv[place + 1 : place + 1 + len(words)]
        same = [float(word) for word in words] if flag in {"lr", "min_lr"} else words
        got = [float(word) for word in rendered] if flag in {"lr", "min_lr"} else rendered
        assert got == same, flag
    assert spec.training.env == {"NCCL_IB_HCA": "mlx5_0"}
    assert {note.flag for note in notes} == {"NNODES", "NPROC_PER_NODE", "output_dir"}


def test_a_hub_id_and_a_converted_checkpoint() -> None:
    text = "megatron sft --load Q-mcore --dataset 'swift/self-cognition#500' --train_iters 5"
    (found,) = translate(text, "4.6")
    with pytest.raises(BadInputError, match="a HF model"):
        run_document(found, "r")
    document, _ = run_document(found, "r", "Qwen/Qwen2.5-7B-Instruct")
    assert document["model"] == {"id": "Qwen/Qwen2.5-7B-Instruct"}
    assert document["method"] == {"task": "sft", "tuner": "full"}


def test_what_a_run_file_cannot_say_is_refused() -> None:
    (export,) = translate("swift export --model m --to_mcore true", "4.6")
    with pytest.raises(BadInputError, match="one of megatron sft, megatron pt"):
        run_document(export, "r")
    (many,) = translate("NNODES=$N swift sft --model o/m --dataset d --max_steps 1", "4.6")
    with pytest.raises(BadInputError, match="NNODES"):
        run_document(many, "r")


def test_a_training_without_megatron_says_its_global_batch() -> None:
    text = (
        "export WANDB_API_KEY=x\nNPROC_PER_NODE=4 swift sft --model o/m --dataset d "
        "--per_device_train_batch_size 2 --gradient_accumulation_steps $(expr 16 / 4) "
        "--deepspeed zero2 --train_type full --save_total_limit -1"
    )
    (found,) = translate(text, "3.12")
    document, notes = run_document(found, "r")
    assert document["method"] == {
        "task": "sft",
        "backend": "swift",
        "tuner": "full",
        "deepspeed": "zero2",
    }
    assert document["training"]["global_batch_size"] == 32
    assert document["training"]["epochs"] == 3
    assert "output" not in document
    assert "WANDB_API_KEY" in {note.flag for note in notes if note.kind == "dropped"}
    assert "env" not in document["training"]


def test_preferences_have_their_type() -> None:
    text = "megatron rlhf --rlhf_type kto --beta 0.2 --model o/m --dataset d --max_epochs 1"
    (found,) = translate(text, "3.9")
    document, _ = run_document(found, "r")
    assert document["method"]["rlhf"] == {"type": "kto", "beta": 0.2}
    assert document["training"]["epochs"] == 1
