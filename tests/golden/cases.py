"""Runs and fleets whose commands are recorded, and held to every line's flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

AT = Path("/nowhere/run.yml")

CPU_FLEET: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "local",
    "device": "cpu",
    "root": "/fleet",
    "python": "/venv/bin/python",
    "nodes": [{"name": "node-1"}, {"name": "node-2"}],
}
GPU_FLEET: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "container",
    "root": "/data/swiftops",
    "python": "/opt/swift/bin/python",
    "training_interface": "eth0",
    "nodes": [
        {"name": "node-1", "address": "10.0.0.1", "gpus": 8},
        {"name": "node-2", "address": "10.0.0.2", "gpus": 8},
    ],
}
LORA: dict[str, Any] = {
    "name": "lora",
    "model": {"path": "/models/m", "model_type": "llama", "template": "chatml"},
    "data": {"train": ["/data/rows.jsonl"]},
    "training": {"iterations": 10, "micro_batch_size": 4, "global_batch_size": 8},
    "parallel": {"pipeline": 2},
    "smoke": {"questions": [{"ask": "Who are you?", "expect": ["Swifty"]}]},
}
FULL: dict[str, Any] = {
    "name": "full",
    "model": {"path": "/models/m"},
    "data": {"train": ["/data/a.jsonl", "/data/b.jsonl"], "system": "Be kind.", "max_length": 4096},
    "method": {"tuner": "full", "task": "pt"},
    "training": {
        "epochs": 1,
        "global_batch_size": 64,
        "learning_rate": 1e-5,
        "min_learning_rate": 1e-6,
        "save_every": 100,
        "recompute": "full",
        "env": {"NCCL_IB_HCA": "mlx5_0,mlx5_1", "NCCL_SOCKET_IFNAME": "eth1"},
    },
    "parallel": {"tensor": 4, "pipeline": 2, "context": 2, "expert": 2, "sequence": True},
    "output": {"save_optimizer": False, "save_safetensors": True, "keep": 2},
    "tracking": {"report_to": ["wandb", "swanlab"], "project": "p", "experiment": "e"},
    "deploy": {"port": 8000, "served_name": "s"},
    "extra_args": {"train": {"recompute_method": "uniform", "recompute_num_layers": 1}},
}
RESUME = {"name": "second", "resume": {"from": "first"}}
RESTART = {"resume": {"from": "/checkpoints/full/checkpoint-20", "mode": "restart"}}
DPO = {
    **LORA,
    "name": "dpo",
    "method": {"task": "rlhf", "rlhf": {"type": "dpo", "beta": 0.1}},
    "export": {"form": "adapters"},
}
MOE = {
    **LORA,
    "name": "moe",
    "method": {"tuner": "lora", "freeze_vit": True, "freeze_aligner": False},
    "training": {
        "iterations": 10,
        "micro_batch_size": 1,
        "global_batch_size": 16,
        "fp8": "e4m3",
        "fp8_recipe": "blockwise",
    },
    "parallel": {"tensor": 2, "expert": 8, "sequence": True},
    "export": {"form": "mcore", "test_precision": True},
}
SEQ_CLS = {**LORA, "name": "cls", "method": {"task_type": "seq_cls", "num_labels": 2}}
GRPO = {
    **LORA,
    "name": "grpo",
    "method": {"task": "rlhf", "rlhf": {"type": "grpo"}},
    "rollout": {"gpus": [6, 7]},
    "extra_args": {
        "train": {"reward_funcs": ["accuracy"], "num_generations": 8},
        "rollout": {"vllm_tensor_parallel_size": 2},
    },
}
ZERO3 = {
    "name": "zero3",
    "model": {"path": "/models/m"},
    "data": {"train": ["/data/a.jsonl"], "max_length": 4096},
    "method": {"backend": "swift", "tuner": "full", "deepspeed": "zero3"},
    "training": {"epochs": 1, "micro_batch_size": 1, "global_batch_size": 32, "seed": 7},
    "output": {"save_optimizer": False, "keep": 2},
    "eval": {"datasets": ["gsm8k", "arc"], "limit": 100},
}
FSDP = {
    **ZERO3,
    "name": "fsdp",
    "method": {"backend": "swift", "fsdp": "full_shard auto_wrap"},
    "parallel": {"context": 2},
    "resume": {"from": "first"},
    "sample": {"answers": 8},
}
SMALL = {  # what the oldest line can say
    "name": "small",
    "model": {"path": "/models/m", "model_type": "qwen2-7b-instruct", "template": "qwen"},
    "data": {"train": ["/data/a.jsonl"], "max_length": 2048},
    "method": {"tuner": "full"},
    "training": {"epochs": 1, "micro_batch_size": 1, "global_batch_size": 16},
    "parallel": {"tensor": 4},
}
HOSTILE = "/a b/c'd\";rm -rf $HOME`id`{{ x }}{train.checkpoint}/模型"

CASES = {
    "lora-cpu": (CPU_FLEET, LORA),
    "lora-gpu": (GPU_FLEET, LORA),
    "full-gpu": (GPU_FLEET, FULL),
    "hub-gpu": (
        {
            **GPU_FLEET,
            "hub": {
                "huggingface_endpoint": "https://mirror.example.com",
                "proxy": "http://proxy.example.com:3128",
            },
        },
        {
            **LORA,
            "model": {"id": "Qwen/Qwen2.5-7B-Instruct", "revision": "refs/pr/1"},
            "data": {
                "train": [
                    "HF::owner/rows:a/b#500",
                    {"path": "/data/b.jsonl", "at": "controller", "rows": 7},
                    {"path": "/data/folder", "at": "first_node"},
                ]
            },
        },
    ),
    "resume-lora-cpu": (CPU_FLEET, {**LORA, **RESUME}),
    "resume-full-gpu": (GPU_FLEET, {**FULL, **RESUME}),
    "restart-full-gpu": (GPU_FLEET, {**FULL, **RESTART}),
    "dpo-gpu": (GPU_FLEET, DPO),
    "moe-gpu": (GPU_FLEET, MOE),
    "seq-cls-gpu": (GPU_FLEET, SEQ_CLS),
    "grpo-gpu": (GPU_FLEET, GRPO),
    "zero3-gpu": (GPU_FLEET, ZERO3),
    "fsdp-gpu": (GPU_FLEET, FSDP),
    "swift-cpu": (
        CPU_FLEET,
        {**LORA, "name": "plain", "method": {"backend": "swift"}, "parallel": {}},
    ),
    "small-gpu": (GPU_FLEET, SMALL),
    "awq-push-gpu": (
        GPU_FLEET,
        {
            **LORA,
            "export": {
                "quantize": {"method": "awq", "samples": 64},
                "push": {"hub": "huggingface", "model": "org/name", "what": "quantized"},
            },
        },
    ),
    "fp8-push-gpu": (
        GPU_FLEET,
        {
            **LORA,
            "export": {
                "quantize": {"method": "fp8"},
                "push": {"hub": "modelscope", "model": "org/name", "private": False},
            },
        },
    ),
    "bnb-gpu": (GPU_FLEET, {**LORA, "export": {"quantize": {"method": "bnb", "bits": 8}}}),
    "hostile-paths": (
        {**CPU_FLEET, "root": HOSTILE, "nodes": [{"name": "node-1"}]},
        {
            **LORA,
            "model": {"path": HOSTILE},
            "data": {"train": [HOSTILE], "system": HOSTILE},
            "parallel": {},
        },
    ),
}


def plan_of(case: str, line: str = "4.6") -> Plan:
    fleet, run = CASES[case]
    spec = RunSpec.from_document({"run": run}, AT)
    return make_plan(Fleet.from_document({**fleet, "line": line}, AT), spec, spec.name)
