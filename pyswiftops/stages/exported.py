"""What is done with an exported model: a quantised copy of it, and the upload to a hub."""

from __future__ import annotations

from typing import Any

from pyswiftops.errors import Finding, MatrixError
from pyswiftops.stages.command import Command
from pyswiftops.stages.context import Context
from pyswiftops.stages.fetching import asking_hubs
from pyswiftops.stages.serving import trained


def quantize(context: Context) -> list[Command]:
    """``swift export --quant_method``: a quantised copy beside the export, if it is asked for.

    Calibration takes 2048 tokens a block where nothing is said: upstream's default is the model's
    own limit.

    Raises:
        MatrixError: the line cannot do it, or there are no GPUs.
    """
    asked, node = context.spec.export.quantize, context.first
    if asked is None:
        return []
    if context.on_cpu:
        remedy = "leave it out, or run it on a fleet with GPUs"
        raise MatrixError(Finding("GPUs", "device: cpu", "export.quantize", remedy))
    settings: dict[str, Any] = {
        **trained(context),
        **context.model_kind,
        "quant_method": asked.method,
        "quant_bits": None if asked.method == "fp8" else asked.bits or 4,
        "overwrite": True,
        "output": context.paths(node).quantized,
    }
    if asked.calibrated:
        settings |= {
            "dtype": None,  # upstream takes float16, which these kernels are made for
            "dataset": asked.dataset or context.rows(node),
            "quant_samples": asked.samples,
            "max_length": asked.max_length or 2048,
            "quant_batch_size": asked.batch_size,
            "quant_group_size": asked.group_size,
        }
    env = context.environment(node, ranks=1 if context.spec.export.gpus == "one" else None)
    return [context.command("export_quantize", node, _words(context, "quantize", settings), env)]


def push(context: Context) -> list[Command]:
    """``swift export --push_to_hub``: the upload, if it is asked for.

    The token comes with the job's secret environment, as for the stage ``fetch``.

    Raises:
        MatrixError: the line cannot do it.
    """
    asked, node = context.spec.export.push, context.first
    if asked is None:
        return []
    quantized = asked.what == "quantized"
    place = {"model": context.paths(node).quantized} if quantized else trained(context)
    settings = {
        **place,
        **{name: context.model_kind[name] for name in ("model_type", "template")},
        "push": True,
        "hub_model": asked.model,
        "hub_private": asked.private,
        "hub_message": asked.message,
        "hub": asked.hub,
    }
    env = asking_hubs(context, node)
    return [context.command("export_push", node, _words(context, "push", settings), env)]


def _words(context: Context, what: str, settings: dict[str, Any]) -> tuple[Any, ...]:
    return context.words(f"export_{what}", settings)
