"""ms-swift 2.6: ``swift sft --train_backend megatron``, whole models only, no pipeline.

``model_type`` names the model itself there (``qwen2-7b-instruct``), and shards are read only at
the parallel sizes that they were converted for. Names as in the argument classes of 2.6.1.
"""

from __future__ import annotations

from typing import Any

from pyswiftops.stages.lines import Line, Verb
from pyswiftops.stages.lines.swift import DERIVES, PLAIN, RECOMPUTE, WHOLE

_MODEL = {
    "model": "model_id_or_path",
    "model_type": "model_type",
    "template": "template_type",
    "dtype": "dtype",
}
_VALUES: dict[str, dict[Any, Any]] = {
    "dtype": {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"},
    "backend": {"transformers": "pt"},
    "lora_targets": {"all-linear": "ALL"},
}
_OFFLINE = {"check_model_is_latest": False}
_OWN_FOLDER = {"add_output_dir_suffix": False}
_SPLIT = {"dataset_test_ratio": 0}
_RENAMED = {
    "tuner": "sft_type",
    "micro_batch_size": "batch_size",
    "min_learning_rate": "min_lr",
}
_ABSENT = (
    "task_type",
    "num_labels",
    "freeze_llm",
    "freeze_aligner",
    "swanlab_project",
    "swanlab_experiment",
    "wandb_experiment",
)
_PLAIN = {
    name: flag for name, flag in {**PLAIN, **_MODEL, **_RENAMED}.items() if name not in _ABSENT
}
_MEGATRON = {
    **{name: _PLAIN[name] for name in (*_MODEL, "dataset", "system", "max_length")},
    **{name: _PLAIN[name] for name in ("micro_batch_size", "accumulation", "epochs")},
    **{name: _PLAIN[name] for name in ("learning_rate", "min_learning_rate", "warmup_fraction")},
    **{name: _PLAIN[name] for name in ("seed", "save_every", "log_every")},
    "no_optimizer": "save_only_model",
    "mcore_model": "resume_from_checkpoint",
    "tensor": "tp",
    "sequence": "sequence_parallel",
    "output": "output_dir",
}
_EXPORT = {
    **_MODEL,
    "tensor": "tp",
    "mcore_model": "ckpt_dir",
    "to_hf": "to_hf",
    "output": "hf_output_dir",
}
# An output folder that is there is left as it is, and the step is skipped.
_ONCE = {"overwrite": (True,), "pipeline": (1,)}
_VERBS = {
    "train": Verb(
        "swift {task}",
        _MEGATRON,
        values=_VALUES,
        without={
            "tuner": ("full",),
            "pipeline": (1,),
            "weights_only": (True,),
            "context": (1,),
            "expert": (1,),
            "recompute": ("selective",),
            "report_to": (("tensorboard",),),
            "save_safetensors": (False,),
            "no_rng": (True,),
        },
        derives=frozenset({"global_batch_size"}),
        always={"train_backend": "megatron", "sft_type": "full", **_OWN_FOLDER, **_OFFLINE},
        usual=_SPLIT,
    ),
    "plain": Verb(
        "swift {task}",
        _PLAIN,
        values={**_VALUES, "recompute": RECOMPUTE},
        without=WHOLE,
        derives=DERIVES - {"wandb_project"},
        always={**_OWN_FOLDER, **_OFFLINE},
        usual=_SPLIT,
    ),
    "convert": Verb(
        "swift export",
        {
            **{name: flag for name, flag in _EXPORT.items() if name != "to_hf"},
            "to_mcore": "to_megatron",
            "output": "megatron_output_dir",
        },
        values=_VALUES,
        without=_ONCE,
    ),
    "export": Verb(
        "swift export",
        _EXPORT,
        values=_VALUES,
        without=_ONCE,
        derives=frozenset({"ranks", "stages"}),
    ),
    "infer": Verb(
        "swift infer",
        {
            **_MODEL,
            "backend": "infer_backend",
            "questions": "val_dataset",
            "answers": "result_dir",
            "max_tokens": "max_new_tokens",
            "temperature": "temperature",
            "stream": "stream",
        },
        values=_VALUES,
    ),
    "deploy": Verb(
        "swift deploy",
        {
            **_MODEL,
            "backend": "infer_backend",
            "host": "host",
            "port": "port",
            "served_name": "served_model_name",
        },
        values=_VALUES,
    ),
    "eval": Verb(
        "swift eval",
        {
            **_MODEL,
            "backend": "infer_backend",
            "eval_datasets": "eval_dataset",
            "eval_backend": "eval_backend",
            "limit": "eval_limit",
            "output": "eval_output_dir",
        },
        values=_VALUES,
    ),
}
LINES = (Line("2.6", _VERBS),)
