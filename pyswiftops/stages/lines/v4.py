"""ms-swift 4.0 to 4.6: of all names that are rendered, none changed between them.

Names as in the argument classes of the releases; ``tests/golden/`` holds every rendered flag and
its type to each line's inventory. Whole pipelines were run on 4.6 alone.
"""

from __future__ import annotations

from dataclasses import replace

from pyswiftops.stages.lines import Line, Verb
from pyswiftops.stages.lines.swift import METHOD, MODEL, plain_training, swift_verbs

TRAIN = {
    "model": "model",
    "mcore_model": "mcore_model",
    "mcore_adapter": "mcore_adapter",
    "weights_only": "finetune",
    "model_type": "model_type",
    "template": "template",
    "dtype": "torch_dtype",
    **METHOD,
    "tuner": "tuner_type",
    "lora_rank": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_targets": "target_modules",
    "tensor": "tensor_model_parallel_size",
    "pipeline": "pipeline_model_parallel_size",
    "context": "context_parallel_size",
    "expert": "expert_model_parallel_size",
    "sequence": "sequence_parallel",
    "dataset": "dataset",
    "system": "system",
    "max_length": "max_length",
    "micro_batch_size": "micro_batch_size",
    "global_batch_size": "global_batch_size",
    "iterations": "train_iters",
    "epochs": "num_train_epochs",
    "learning_rate": "lr",
    "min_learning_rate": "min_lr",
    "warmup_fraction": "lr_warmup_fraction",
    "seed": "seed",
    "recompute": "recompute_granularity",
    "fp8": "fp8_format",
    "fp8_recipe": "fp8_recipe",
    "save_every": "save_steps",
    "keep": "save_total_limit",
    "no_optimizer": "no_save_optim",
    "no_rng": "no_save_rng",
    "save_safetensors": "save_safetensors",
    "log_every": "logging_steps",
    "report_to": "report_to",
    "wandb_project": "wandb_project",
    "wandb_experiment": "wandb_exp_name",
    "swanlab_project": "swanlab_project",
    "swanlab_experiment": "swanlab_exp_name",
    "output": "output_dir",
}
EXPORT = {
    **MODEL,
    "mcore_model": "mcore_model",
    "mcore_adapter": "mcore_adapter",
    "to_mcore": "to_mcore",
    "to_hf": "to_hf",
    "merge_lora": "merge_lora",
    "test_precision": "test_convert_precision",
    "ranks": "tensor_model_parallel_size",
    "stages": "pipeline_model_parallel_size",
    "overwrite": "exist_ok",
    "output": "output_dir",
}
# Shards of every layout are read at any parallel size.
ANY_SIZE = frozenset({"tensor", "pipeline"})
FLOAT32 = {"fp16": False, "bf16": False}
CPU = {**FLOAT32, "attention_backend": "unfused", "ddp_backend": "gloo"}
CPU_TRAIN = {
    "dataloader_num_workers": 0,
    "gradient_accumulation_fusion": False,
    "cross_entropy_loss_fusion": False,
    "bias_activation_fusion": False,
    "bias_dropout_fusion": False,
    "masked_softmax_fusion": False,
    "use_distributed_optimizer": False,
    **CPU,
}
OFFLINE = {"check_model": False}

_EXPORT = Verb("megatron export", EXPORT, derives=ANY_SIZE, always=OFFLINE, cpu=CPU)
_VERBS = {
    "train": Verb(
        "megatron {task}",
        TRAIN,
        derives=frozenset({"accumulation", "load_hf"}),
        always={"add_version": False, **OFFLINE},
        usual={"split_dataset_ratio": 0},
        cpu=CPU_TRAIN,
    ),
    "convert": _EXPORT,
    "export": _EXPORT,
    "plain": plain_training("tuner_type"),
    **swift_verbs("transformers"),
}
# Up to 4.5 training reaches through the wrapper of half precision, which float32 has not.
BFLOAT16 = {"torch_dtype": "bfloat16", "bf16": True}
_BEFORE_4_6 = {**_VERBS, "train": replace(_VERBS["train"], cpu={**CPU_TRAIN, **BFLOAT16})}
LINES = (*(Line(f"4.{minor}", _BEFORE_4_6) for minor in range(6)), Line("4.6", _VERBS))
