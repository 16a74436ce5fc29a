"""convert, roundtrip and export: between HF checkpoints and Megatron's (mcore) format."""

from __future__ import annotations

from typing import Any

from pyswiftops.stages.command import Command, Late, flag_words
from pyswiftops.stages.context import Context

CHECKPOINT = Late("train.checkpoint")


def _export(
    context: Context, job: str, what: str, settings: dict[str, Any], extra: str
) -> list[Command]:
    node, spec = context.first, context.spec
    common = {
        "model": context.model(node),
        **context.model_kind,
        "overwrite": True,
        "tensor": spec.parallel.tensor,
        "pipeline": spec.parallel.pipeline,
    }
    tensor, pipeline = _cut(context) if job == "export" else (1, 1)
    ranks = tensor * pipeline
    env = {**context.environment(node, ranks=ranks), **context.launcher(node, (node,))}
    if ranks > 1:
        common |= {"ranks": tensor, "stages": pipeline if pipeline > 1 else None}
        env["NPROC_PER_NODE"] = str(ranks)
    if job != "export":  # it alone runs by itself
        env |= context.threads(node)
    argv = context.words(what, {**common, **settings}, extra)
    return [context.command(job, node, argv, env)]


def _cut(context: Context) -> tuple[int, int]:
    """Tensor and pipeline ranks of the export.

    LoRA's gate and up lie in a checkpoint as each tensor rank of the training had them: at another
    tensor size they are read in another order, and merged into wrong rows without a word (mcore-
    bridge ``tuners/lora.py``; seen on GPUs). Layers may lie on any rank. Lines that export in one
    process have no choice; the proof tells there.
    """
    spec, node = context.spec, context.first
    lora, several = spec.method.tuner == "lora", "ranks" in context.line.verb("export").flags
    if spec.export.gpus == "one":
        return (spec.parallel.tensor if lora and several else 1, 1)
    if lora:
        return (spec.parallel.tensor, max(1, node.ranks // spec.parallel.tensor))
    return (node.ranks, 1)


def convert(context: Context) -> list[Command]:
    """HF -> mcore on the first node, where training needs it."""
    if context.spec.method.backend == "swift" or context.spec.method.bridge:
        return []
    output = context.paths(context.first).mcore
    return _export(context, "convert", "convert", {"to_mcore": True, "output": output}, "convert")


def roundtrip(context: Context) -> list[Command]:
    """The converted, untrained model back to HF: what it answers proves the conversion."""
    if context.spec.method.backend == "swift" or context.spec.method.bridge:
        return []
    paths = context.paths(context.first)
    settings = {"mcore_model": paths.mcore, "to_hf": True, "output": paths.roundtrip}
    return _export(context, "roundtrip_export", "export", settings, "convert")


def gather(_context: Context) -> list[Command]:
    """None that could be rendered: what nodes hold is known only then (the role ``gather``)."""
    return []


def export(context: Context) -> list[Command]:
    """The trained checkpoint in the form that the spec asks for, on the first node.

    Whole weights, or LoRA merged into the base, as HF or mcore; or the adapters alone.
    """
    spec, paths = context.spec, context.paths(context.first)
    form, lora = spec.export.form, spec.method.tuner == "lora"
    if spec.method.backend == "swift":
        return _merge(context) if lora and form == "hf" else []
    settings: dict[str, Any] = {
        "output": paths.export,
        "to_mcore" if form == "mcore" else "to_hf": True,
        "test_precision": True if spec.export.test_precision else None,
    }
    if not lora:
        settings |= {"mcore_model": CHECKPOINT}
    else:
        settings |= {
            "mcore_model": None if spec.method.bridge else paths.mcore,
            "mcore_adapter": CHECKPOINT,
            "merge_lora": form != "adapters",
        }
    return _export(context, "export", "export", settings, "export")


def proof(context: Context) -> list[Command]:
    """The export's tensors against an own reading of the checkpoint, and the files beside them.

    Nothing where Megatron did not train, or where nobody wants it.
    """
    spec, node = context.spec, context.first
    if spec.method.backend == "swift" or spec.export.proof == "off":
        return []
    paths = context.paths(node)
    flags = {
        "checkpoint": CHECKPOINT,
        "exported": paths.export,
        "base": context.model(node),
        "form": spec.export.form,
        "tuner": spec.method.tuner,
        "proof": spec.export.proof,
        "seed": spec.training.seed,
        "output": paths.export_proof,
    }
    argv = ("python", "-m", "pyswiftops.checkpoints.proof", *flag_words(flags))
    env = {**context.environment(node, ranks=0), **context.threads(node)}
    return [context.command("export_proof", node, argv, env)]


def _merge(context: Context) -> list[Command]:
    """Adapters that were trained without Megatron, merged; other forms are there as they are."""
    node = context.first
    settings = {
        "model": context.model(node),
        **context.model_kind,
        "adapters": [CHECKPOINT],
        "merge_lora": True,
        "overwrite": True,
        "output": context.paths(node).export,
    }
    env = {**context.environment(node, ranks=1), **context.threads(node)}
    return [context.command("export", node, context.words("merge", settings, "export"), env)]
