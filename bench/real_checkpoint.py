"""A checkpoint that Megatron itself wrote: SmolLM2-135M in bfloat16 with its optimizer, two nodes.

One step with all weights and pipeline size 2, by ms-swift on the CPU; minutes, as bfloat16 is
emulated there. Fleets of CPUs train in float32, where a third is weights; here the precision is
that of GPUs, where a seventh is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bench.checkpoints import Made
from pyswiftops.client import Client
from pyswiftops.demo.run import DemoOptions, prepare
from pyswiftops.planner.plan import Plan
from pyswiftops.specs.run import KEY, RunSpec
from pyswiftops.stages.command import Word

RUN_ID = "real"
MIXED = {"torch_dtype": "bfloat16", "bf16": "true", "max_length": "64"}


def train(folder: Path) -> Made:
    """Convert and train in ``folder``; the checkpoint of its nodes, in rank order."""
    files, fleet, demo = prepare(DemoOptions("Ada", "a team", folder, tuner="full"))
    document = demo.model_dump(mode="json", by_alias=True, exclude_unset=True)
    training = {"iterations": 1, "micro_batch_size": 1, "global_batch_size": 1, "save_every": 1}
    document["training"] = {**document["training"], **training}
    document |= {"name": RUN_ID, "output": {"save_optimizer": True}}
    spec = RunSpec.from_document({KEY: document}, folder / "run.yml")
    client = Client(files.runs)
    client.apply(mixed(client.plan(fleet, spec)), stages=["convert", "train"])
    folders = [
        files.nodes / node.name / "runs" / RUN_ID / "train" / "checkpoint-1" for node in fleet.nodes
    ]
    shards = [path for place in folders for path in place.rglob("*.distcp")]
    return Made(folders, "iter_0000001", sum(path.stat().st_size for path in shards))


def mixed(plan: Plan) -> Plan:
    """The plan with training in bfloat16."""

    def words(argv: tuple[Word, ...]) -> tuple[Word, ...]:
        flags = (None, *argv)
        return tuple(
            MIXED.get(str(flag).removeprefix("--"), word)
            for flag, word in zip(flags, argv, strict=False)
        )

    commands = tuple(
        dataclasses.replace(command, argv=words(command.argv)) for command in plan.jobs["train"]
    )
    return dataclasses.replace(plan, jobs={**plan.jobs, "train": commands})
