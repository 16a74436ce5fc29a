"""train: one launcher a node, ``megatron`` or ``swift``, all of one job."""

from __future__ import annotations

from typing import Any

from pyswiftops.errors import Finding, RunSpecError
from pyswiftops.stages.command import Command, Late
from pyswiftops.stages.context import Context
from pyswiftops.stages.node import NodeFacts, world_size

MAX_LENGTH = Late("data.max_length")


def _settings(context: Context) -> dict[str, Any]:
    """The run spec in neutral names; None leaves a setting to upstream."""
    spec = context.spec
    training, parallel, output = spec.training, spec.parallel, spec.output
    return {
        "model": None,  # as are the rows: each node's own path
        **context.model_kind,
        **_method(context),
        **_lora(context),
        "tensor": parallel.tensor,
        "pipeline": parallel.pipeline,
        "context": parallel.context,
        "expert": parallel.expert if parallel.expert > 1 else None,
        "sequence": True if parallel.sequence else None,
        "fp8": training.fp8,
        "fp8_recipe": training.fp8_recipe,
        "dataset": None,
        "system": spec.data.system,
        "max_length": MAX_LENGTH if spec.data.max_length == "auto" else spec.data.max_length,
        "micro_batch_size": training.micro_batch_size,
        "global_batch_size": training.global_batch_size,
        "accumulation": _accumulation(context),
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


def _method(context: Context) -> dict[str, Any]:
    method, rollout = context.spec.method, context.spec.rollout
    return {
        "vllm": True if rollout else None,
        "vllm_mode": "server" if rollout else None,
        "rollout_host": [context.last.address] if rollout else None,
        "rollout_port": [rollout.port] if rollout else None,
        "tuner": method.tuner,
        "rlhf_type": method.rlhf.type if method.rlhf else None,
        "beta": method.rlhf.beta if method.rlhf else None,
        "task_type": method.task_type,
        "num_labels": method.num_labels,
        "freeze_llm": method.freeze_llm,
        "freeze_vit": method.freeze_vit,
        "freeze_aligner": method.freeze_aligner,
        "deepspeed": method.deepspeed,
        "fsdp": method.fsdp,
    }


def _accumulation(context: Context) -> int | None:
    """Steps whose gradients are added, for verbs that are not told the global batch.

    Raises:
        RunSpecError: no whole number of them gives the global batch.
    """
    what = "plain" if context.spec.method.backend == "swift" else "train"
    if "accumulation" in context.line.verb(what).derives:
        return None
    training, ranks = context.spec.training, world_size(context.nodes)
    if what == "plain":
        ranks //= context.spec.parallel.context
    at_once = training.micro_batch_size * max(ranks, 1)
    if training.global_batch_size % at_once:
        raise RunSpecError(
            Finding(
                f"a multiple of {at_once}: micro_batch_size times {ranks} ranks",
                str(training.global_batch_size),
                "training.global_batch_size",
                "choose a multiple",
            )
        )
    return training.global_batch_size // at_once


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


def _weights(context: Context, node: NodeFacts) -> dict[str, Any]:
    """What training starts from: the base, or the checkpoint to go on from.

    Of LoRA a checkpoint holds the adapters alone. Step, optimizer and random state are taken over
    or not as is said here, since what a line does by itself changed with 4.0.
    """
    paths, resume = context.paths(node), context.spec.resume
    restart = resume is None or resume.mode == "restart"
    if context.spec.method.backend == "swift":
        return {} if resume is None else {"checkpoint": paths.resume, "weights_only": restart}
    told: dict[str, Any] = {"weights_only": restart}
    if resume is not None and context.spec.method.tuner == "full":
        return {"mcore_model": paths.resume, **told}
    bridge = context.spec.method.bridge
    told |= {"load_hf": True} if bridge else {"mcore_model": paths.mcore}
    return told if resume is None else {**told, "mcore_adapter": paths.resume}


def resume_needs(context: Context) -> dict[str, Any]:
    """What ``args.json`` of a checkpoint must say, so that this run can go on from it.

    Sources: ``load_mcore_checkpoint`` of ms-swift 4.6 drops a missing optimizer without a word,
    and refuses other tensor and pipeline sizes with the distributed optimizer.
    """
    spec = context.spec
    needed: dict[str, Any] = {"tuner": spec.method.tuner}
    if spec.method.tuner == "lora":
        needed["lora_rank"] = spec.method.lora.rank
    if spec.resume is not None and spec.resume.mode == "continue":
        needed |= {"no_optimizer": False, "no_rng": False}
        if not context.on_cpu:
            needed |= {"tensor": spec.parallel.tensor, "pipeline": spec.parallel.pipeline}
    return context.line.flags("train", spec.method.task, needed)


def _watch(context: Context, output: str) -> dict[str, Any]:
    """What a node looks for while it trains."""
    training = context.spec.training
    return {
        "hang_steps": training.hang_steps,
        "hang_at_least": training.hang_at_least,
        "hang_startup": training.hang_startup,
        "spike": training.alerts.loss_spike,
        "window": training.alerts.window,
        "stop_on_nan": training.alerts.stop_on_nan,
        "output": output,
        "save_every": training.save_every or training.iterations,
        "iterations": training.iterations,
        "keep": context.spec.output.keep,
    }


def train(context: Context) -> list[Command]:
    """The same argv on every node but for its own output folder; ranks differ by environment."""
    plain = context.spec.method.backend == "swift"
    settings = _settings(context)
    training = context.spec.training
    layout = context.row.checkpoint
    logs_on_first = plain or (layout is not None and layout.log_on == "first")
    logger = context.first if logs_on_first else context.last
    commands = []
    for node in context.nodes:
        paths = context.paths(node)
        settings["model"], settings["dataset"] = context.model(node), context.rows(node)
        own = {**_weights(context, node), "output": paths.train}
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
                context.words("plain" if plain else "train", {**settings, **own}, "train"),
                env,
                progress_file=paths.train_log if node is logger else None,
                fate=True,
                hang_timeout=training.hang_timeout * training.log_every,  # only logged steps show
                watch=_watch(context, paths.train),
            )
        )
    return commands
