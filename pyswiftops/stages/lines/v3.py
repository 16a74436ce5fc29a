"""ms-swift 3.6 to 3.12: Megatron's own names, Megatron-LM from a checkout.

3.6 trains whole models only; 3.7 brings LoRA, 3.10 ``megatron export`` and Hugging Face weights
beside the shards, 3.12 a choice of trackers. Names as in the argument classes of the releases.
"""

from __future__ import annotations

from dataclasses import replace

from pyswiftops.stages.lines import Line, Verb
from pyswiftops.stages.lines.swift import plain_training, swift_verbs
from pyswiftops.stages.lines.v4 import ANY_SIZE, EXPORT, OFFLINE
from pyswiftops.stages.lines.v4 import TRAIN as NEWER

_RENAMED = {
    "mcore_model": "load",
    "mcore_adapter": "adapter_load",
    "tuner": "train_type",
    "epochs": "max_epochs",
    "save_every": "save_interval",
    "log_every": "log_interval",
    "output": "save",
    # One project and one experiment, whichever tracker it is.
    "swanlab_project": "wandb_project",
    "swanlab_experiment": "wandb_exp_name",
}


def _less(flags: dict[str, str], *names: str) -> dict[str, str]:
    return {name: flag for name, flag in flags.items() if name not in names}


# save_retain_interval of 3.9 keeps every N-th, and not the last N.
TRAIN_3_12 = _less({**NEWER, **_RENAMED, "load_hf": "load_safetensors"}, "keep")
TRAIN_3_10 = _less(TRAIN_3_12, "report_to", "swanlab_project", "swanlab_experiment")
# Its own torch_dtype takes no word that a command line has.
TRAIN_3_8 = _less(TRAIN_3_10, "save_safetensors", "dtype", "load_hf")
_DTYPE = {"bfloat16": {"bf16": True}, "float16": {"fp16": True}}
TRAIN_3_7 = _less(TRAIN_3_8, "freeze_llm", "freeze_vit", "freeze_aligner")
_LORA = ("tuner", "mcore_adapter", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
TRAIN_3_6 = _less(TRAIN_3_7, *_LORA)
# TensorBoard is always written, below the output folder; --wandb_project turns that one on.
_TRACKERS = {
    ("tensorboard",): None,
    ("wandb",): "wandb",
    ("swanlab",): "swanlab",
    ("tensorboard", "wandb"): "wandb",
    ("tensorboard", "swanlab"): "swanlab",
    ("wandb", "tensorboard"): "wandb",
    ("swanlab", "tensorboard"): "swanlab",
}
_NO_CHOICE = (("tensorboard",), ("wandb",), ("tensorboard", "wandb"), ("wandb", "tensorboard"))
_TRAIN = Verb(
    "megatron {task}",
    TRAIN_3_12,
    values={"report_to": _TRACKERS},
    derives=frozenset({"accumulation"}),
    always={"add_version": False, **OFFLINE},
    usual={"split_dataset_ratio": 0},
)
_BEFORE_3_12 = replace(_TRAIN, flags=TRAIN_3_10, values={}, without={"report_to": _NO_CHOICE})
_BEFORE_3_11 = replace(_BEFORE_3_12, always={"add_version": False})
_BEFORE_3_10 = replace(
    _BEFORE_3_11,
    flags=TRAIN_3_8,
    instead={"dtype": _DTYPE},
    without={**_BEFORE_3_11.without, "save_safetensors": (False,)},
)
_3_6 = replace(_BEFORE_3_10, flags=TRAIN_3_6, without={**_BEFORE_3_10.without, "tuner": ("full",)})

_MEGATRON_EXPORT = Verb(
    "megatron export",
    {**EXPORT, "mcore_model": "load", "mcore_adapter": "adapter_load", "output": "save"},
    derives=ANY_SIZE,
    always=OFFLINE,
)
# Adapters are always merged.
_SWIFT_EXPORT = Verb(
    "swift export",
    _less({**EXPORT, "mcore_adapter": "mcore_adapters"}, "merge_lora", "ranks", "stages"),
    without={"merge_lora": (True,)},
    derives=ANY_SIZE | {"ranks", "stages"},
)
_EXPORT_3_6 = replace(_SWIFT_EXPORT, flags=_less(dict(_SWIFT_EXPORT.flags), "mcore_adapter"))
_EXPORT_3_10 = replace(_MEGATRON_EXPORT, always={})


def _line(minor: int, train: Verb, export: Verb) -> Line:
    verbs = {"train": train, "convert": export, "export": export}
    return Line(f"3.{minor}", {**verbs, "plain": plain_training("train_type"), **swift_verbs("pt")})


LINES = (
    _line(6, _3_6, _EXPORT_3_6),
    _line(7, replace(_BEFORE_3_10, flags=TRAIN_3_7), _SWIFT_EXPORT),
    _line(8, _BEFORE_3_10, _SWIFT_EXPORT),
    _line(9, _BEFORE_3_10, _SWIFT_EXPORT),
    _line(10, _BEFORE_3_11, _EXPORT_3_10),
    _line(11, _BEFORE_3_12, _MEGATRON_EXPORT),
    _line(12, _TRAIN, _MEGATRON_EXPORT),
)
