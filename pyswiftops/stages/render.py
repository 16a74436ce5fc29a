"""The one entry: a job's name -> its commands."""

from __future__ import annotations

from collections.abc import Callable

from pyswiftops.matrix import row
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages import checkpointing, exported, fetching, lines, serving, train
from pyswiftops.stages.command import Command
from pyswiftops.stages.context import Context
from pyswiftops.stages.node import NodeFacts

RENDERERS: dict[str, Callable[[Context], list[Command]]] = {
    "fetch": fetching.fetch,
    "data": serving.data,
    "convert": checkpointing.convert,
    "infer": serving.infer,
    "roundtrip_export": checkpointing.roundtrip,
    "roundtrip_infer": serving.roundtrip_infer,
    "train": train.train,
    "gather": checkpointing.gather,
    "gather_ahead": checkpointing.gather,
    "export": checkpointing.export,
    "export_proof": checkpointing.proof,
    "export_quantize": exported.quantize,
    "export_push": exported.push,
    "eval": serving.evaluate,
    "sample": serving.sample,
    "rollout": serving.rollout,
    "deploy": serving.deploy,
}


def verb(stage: str, spec: RunSpec, line: str) -> lines.Verb:
    """The verb of a line that a stage's ``extra_args`` go to."""
    without_megatron = {"train": "plain", "export": "merge"}
    if spec.method.backend == "swift":
        stage = without_megatron.get(stage, stage)
    return lines.line(line).verb(stage)


def program(stage: str, spec: RunSpec, line: str) -> str:
    """The same as one types it, for instance ``megatron sft``."""
    return verb(stage, spec, line).program.format(task=spec.method.task)


def render(job: str, run_id: str, spec: RunSpec, nodes: tuple[NodeFacts, ...]) -> list[Command]:
    """The commands of one job, one a node that takes part, in rank order.

    Args:
        job: A job of ``catalog.CATALOG``.
        run_id: The run's id.
        spec: The run.
        nodes: The fleet in rank order.

    Raises:
        MatrixError: the fleet's release line has no row or no flag table.
    """
    return RENDERERS[job](context(spec, run_id, nodes))


def context(spec: RunSpec, run_id: str, nodes: tuple[NodeFacts, ...]) -> Context:
    """What the renderers of a run look at.

    Raises:
        MatrixError: the fleet's release line has no row or no flag table.
    """
    line = nodes[0].line
    return Context(run_id, spec, row(line), lines.line(line), nodes)
