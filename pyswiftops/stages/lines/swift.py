"""The verbs of ``swift`` that 3.6 to 4.6 share but for a few names."""

from __future__ import annotations

from pyswiftops.stages.lines import Verb

MODEL = {
    "model": "model",
    "model_type": "model_type",
    "template": "template",
    "dtype": "torch_dtype",
}
# What both ways of training call alike.
METHOD = {
    "rlhf_type": "rlhf_type",
    "beta": "beta",
    "vllm": "use_vllm",
    "vllm_mode": "vllm_mode",
    "rollout_host": "vllm_server_host",
    "rollout_port": "vllm_server_port",
    "task_type": "task_type",
    "num_labels": "num_labels",
    "freeze_llm": "freeze_llm",
    "freeze_vit": "freeze_vit",
    "freeze_aligner": "freeze_aligner",
}
SERVED = {
    **MODEL,
    "adapters": "adapters",
    "backend": "infer_backend",
    "host": "host",
    "port": "port",
    "served_name": "served_model_name",
}
INFER = {
    **MODEL,
    "adapters": "adapters",
    "backend": "infer_backend",
    "questions": "val_dataset",
    "answers": "result_path",
    "max_tokens": "max_new_tokens",
    "temperature": "temperature",
    "stream": "stream",
}
EVAL = {
    **MODEL,
    "adapters": "adapters",
    "backend": "infer_backend",
    "eval_datasets": "eval_dataset",
    "eval_backend": "eval_backend",
    "limit": "eval_limit",
    "output": "eval_output_dir",
}
ROLLOUT = {**MODEL, "host": "host", "port": "port"}
SAMPLE = {
    **MODEL,
    "adapters": "adapters",
    "backend": "sampler_engine",
    "sampler": "sampler_type",
    "dataset": "dataset",
    "system": "system",
    "answers_each": "num_return_sequences",
    "max_tokens": "max_new_tokens",
    "temperature": "temperature",
    "output": "output_dir",
    "output_file": "output_file",
}
MERGE = {
    **MODEL,
    "adapters": "adapters",
    "merge_lora": "merge_lora",
    "overwrite": "exist_ok",
    "output": "output_dir",
}
QUANTIZE = {
    **MODEL,
    "quant_method": "quant_method",
    "quant_bits": "quant_bits",
    "quant_samples": "quant_n_samples",
    "quant_batch_size": "quant_batch_size",
    "quant_group_size": "group_size",
    "dataset": "dataset",
    "max_length": "max_length",
    "overwrite": "exist_ok",
    "output": "output_dir",
}
PUSH = {
    **MODEL,
    "adapters": "adapters",
    "push": "push_to_hub",
    "hub": "use_hf",
    "hub_model": "hub_model_id",
    "hub_private": "hub_private_repo",
    "hub_message": "commit_message",
}
HUBS = {"hub": {"huggingface": True, "modelscope": False}}
PLAIN = {
    **MODEL,
    **METHOD,
    "lora_rank": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_targets": "target_modules",
    "context": "sequence_parallel_size",
    "dataset": "dataset",
    "system": "system",
    "max_length": "max_length",
    "micro_batch_size": "per_device_train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "iterations": "max_steps",
    "epochs": "num_train_epochs",
    "learning_rate": "learning_rate",
    "warmup_fraction": "warmup_ratio",
    "seed": "seed",
    "recompute": "gradient_checkpointing",
    "deepspeed": "deepspeed",
    "fsdp": "fsdp",
    "checkpoint": "resume_from_checkpoint",
    "weights_only": "resume_only_model",
    "save_every": "save_steps",
    "keep": "save_total_limit",
    "no_optimizer": "save_only_model",
    "log_every": "logging_steps",
    "report_to": "report_to",
    "wandb_experiment": "run_name",
    "swanlab_project": "swanlab_project",
    "swanlab_experiment": "swanlab_exp_name",
    "output": "output_dir",
}
# Of activations transformers keeps all or none.
RECOMPUTE = {"selective": None, "full": True, "none": False}
# What the sizes of Megatron must be, as nothing is cut that way here.
WHOLE = {"tensor": (1,), "pipeline": (1,), "expert": (1,), "sequence": (False,)}
# Safetensors are all that it writes; random state goes with the optimizer.
DERIVES = frozenset({"global_batch_size", "save_safetensors", "no_rng", "wandb_project"})


def plain_training(tuner: str) -> Verb:
    """``swift sft|pt|rlhf``: training with transformers, DeepSpeed or FSDP.

    Args:
        tuner: The flag for full training or LoRA.
    """
    return Verb(
        "swift {task}",
        {**PLAIN, "tuner": tuner},
        values={"recompute": RECOMPUTE},
        without=WHOLE,
        derives=DERIVES - {"wandb_project"},
        always={"add_version": False, "check_model": False},
        usual={"split_dataset_ratio": 0},
        cpu={"fp16": False, "bf16": False, "ddp_backend": "gloo", "dataloader_num_workers": 0},
    )


def swift_verbs(plain: str) -> dict[str, Verb]:
    """merge, quantise, push, infer, deploy, eval, rollout and sample.

    Args:
        plain: What plain transformers are called as an engine.
    """
    engine = {"backend": {"transformers": plain}}
    return {
        "merge": Verb("swift export", MERGE, cpu={}),
        "export_quantize": Verb("swift export", QUANTIZE),
        "export_push": Verb("swift export", PUSH, values=HUBS, cpu={}),
        "infer": Verb("swift infer", INFER, values=engine, cpu={}),
        "deploy": Verb("swift deploy", SERVED, values=engine, cpu={}),
        "eval": Verb("swift eval", EVAL, values=engine, cpu={}),
        "rollout": Verb("swift rollout", ROLLOUT),
        "sample": Verb("swift sample", SAMPLE, values=engine, cpu={}),
    }
