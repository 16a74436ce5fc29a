"""The stages of a run, what each waits for, and the jobs it starts on nodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: Also the name of its playbook, ``pyswiftops.fleet.stages.<name>``.
        what: What it does, in one sentence.
        after: Stages that must have succeeded.
        jobs: The jobs it starts on nodes, in turn; none where Ansible does the work itself.
    """

    name: str
    what: str
    after: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


CATALOG: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("data", "checks every row and measures token lengths", jobs=("data",)),
        Stage("convert", "HF -> Megatron (mcore), handed to every node", jobs=("convert",)),
        Stage("infer", "asks the base model the smoke questions", jobs=("infer",)),
        Stage(
            "roundtrip",
            "mcore -> HF untrained, and asks it the same questions",
            after=("convert",),
            jobs=("roundtrip_export", "roundtrip_infer"),
        ),
        Stage(
            "compare",
            "the converted model must answer word for word as the base",
            after=("infer", "roundtrip"),
        ),
        Stage(
            "train",
            "megatron training on all nodes, each writing to its own root",
            after=("data", "compare"),
            jobs=("train",),
        ),
        Stage(
            "gather",
            "brings all shards to the first node and proves them complete",
            after=("train",),
        ),
        Stage(
            "export",
            "mcore -> HF on the first node, LoRA merged",
            after=("gather",),
            jobs=("export",),
        ),
        Stage("deploy", "serves the exported model", after=("export",), jobs=("deploy",)),
        Stage("smoke", "asks the endpoint and checks the answers", after=("deploy",)),
    )
}


def stage_of(job: str) -> str:
    """The stage that starts ``job``."""
    return next(stage.name for stage in CATALOG.values() if job in stage.jobs)
