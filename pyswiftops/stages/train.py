"""train: one ``megatron`` launcher a node, all of one job."""

from __future__ import annotations

from typing import Any

from pyswiftops.stages.command import Command, Late
from pyswiftops.stages.context import Context, named

MAX_LENGTH = Late("data.max_length")


def _settings(context: Context) -> dict[str, Any]:
    """The run spec in neutral names; None leaves a setting to upstream."""
    spec = context.spec
    training, parallel, output = spec.training, spec.parallel, spec.output
    return {
        "model": None,  # as are the rows: each node's own path
        "model_type": spec.model.model_type,
        "template": spec.model.template,
        "dtype": context.dtype,
        "tuner": spec.method.tuner,
        **_lora(context),
        "tensor": parallel.tensor,
        "pipeline": parallel.pipeline,
        "context": parallel.context,
        "expert": parallel.expert if parallel.expert > 1 else None,
        "sequence": True if parallel.sequence else None,
        "dataset": None,
        "system": spec.data.system,
        "max_length": MAX_LENGTH if spec.data.max_length == "auto" else spec.data.max_length,
        "micro_batch_size": training.micro_batch_size,
        "global_batch_size": training.global_batch_size,
        "iterations": training.iterations,
        "epochs": training.epochs,
        "learning_rate": training.learning_rate,
        "min_learning_rate": training.min_learning_rate,
        "warmup_fraction": training.warmup_fraction,
        "seed": training.seed,
        "recompute": training.recompute,
        "save_every": training.save_every or training.iterations,
        "keep": output.keep,
        "no_optimizer": None if output.save_optimizer else True,
        "no_rng": None if output.save_optimizer else True,
        "save_safetensors": output.save_safetensors,
        "log_every": training.log_every,
        **_tracking(context),
    }


def _lora(context: Context) -> dict[str, Any]:
    method = context.spec.method
    if method.tuner != "lora":
        return {}
    return {
        "lora_rank": method.lora.rank,
        "lora_alpha": method.lora.alpha,
        "lora_dropout": method.lora.dropout,
        "lora_targets": method.lora.target_modules,
    }


def _tracking(context: Context) -> dict[str, Any]:
    tracking = context.spec.tracking
    wandb, swanlab = "wandb" in tracking.report_to, "swanlab" in tracking.report_to
    return {
        "report_to": tracking.report_to or None,
        "wandb_project": tracking.project if wandb else None,
        "wandb_experiment": tracking.experiment if wandb else None,
        "swanlab_project": tracking.project if swanlab else None,
        "swanlab_experiment": tracking.experiment if swanlab else None,
    }


def train(context: Context) -> list[Command]:
    """The same argv on every node but for its own output folder; ranks differ by environment."""
    on_cpu = context.line.cpu_train if context.on_cpu else {}
    settings = _settings(context)
    training = context.spec.training
    logger = context.first if context.row.checkpoint.log_on == "first" else context.last
    commands = []
    for node in context.nodes:
        paths = context.paths(node)
        settings["model"], settings["dataset"] = context.model(node), context.rows(node)
        settings["mcore_model"], settings["output"] = paths.mcore, paths.train
        flags = {
            **named(context.line.train, settings),
            **context.line.train_always,
            **on_cpu,
            **context.extra_args("train"),
        }
        env = {
            **context.environment(node),
            **context.threads(node),
            **context.launcher(node, context.nodes),
            "NPROC_PER_NODE": str(node.ranks),
        }
        env.update(training.env)
        commands.append(
            context.command(
                "train",
                node,
                context.megatron(context.spec.method.task, flags),
                env,
                progress_file=paths.train_log if node is logger else None,
                fate=True,
                hang_timeout=training.hang_timeout * training.log_every,  # only logged steps show
            )
        )
    return commands
