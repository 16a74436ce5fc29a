"""convert, roundtrip and export: between HF checkpoints and Megatron's (mcore) format."""

from __future__ import annotations

from typing import Any

from pyswiftops.stages.command import Command, Late
from pyswiftops.stages.context import Context, named

CHECKPOINT = Late("train.checkpoint")


def _export(context: Context, job: str, settings: dict[str, Any], extra: str) -> list[Command]:
    node, model = context.first, context.spec.model
    common = {
        "model": context.model(node),
        "model_type": model.model_type,
        "template": model.template,
        "dtype": context.dtype,
        "overwrite": True,
    }
    flags = {**named(context.line.export, {**common, **settings}), **context.extra_args(extra)}
    env = {**context.environment(node, ranks=1), **context.launcher(node, (node,))}
    if job != "export":  # it alone runs by itself
        env |= context.threads(node)
    return [context.command(job, node, context.megatron("export", flags), env)]


def convert(context: Context) -> list[Command]:
    """HF -> mcore on the first node."""
    output = context.paths(context.first).mcore
    return _export(context, "convert", {"to_mcore": True, "output": output}, "convert")


def roundtrip(context: Context) -> list[Command]:
    """The converted, untrained model back to HF: what it answers proves the conversion."""
    paths = context.paths(context.first)
    settings = {"mcore_model": paths.mcore, "to_hf": True, "output": paths.roundtrip}
    return _export(context, "roundtrip_export", settings, "convert")


def export(context: Context) -> list[Command]:
    """The trained checkpoint -> HF on the first node; LoRA is merged into the base."""
    paths = context.paths(context.first)
    settings: dict[str, Any] = {"to_hf": True, "output": paths.export}
    if context.spec.method.tuner == "lora":
        settings |= {"mcore_model": paths.mcore, "mcore_adapter": CHECKPOINT, "merge_lora": True}
    else:
        settings |= {"mcore_model": CHECKPOINT}
    return _export(context, "export", settings, "export")
