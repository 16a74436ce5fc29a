"""The stages of a run, what each waits for, and the jobs it starts on nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyswiftops.errors import BadInputError, Finding


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
        Stage("fetch", "brings model and rows to every node that lacks them", jobs=("fetch",)),
        Stage(
            "data",
            "checks every row and measures token lengths",
            after=("fetch",),
            jobs=("data",),
        ),
        Stage(
            "convert",
            "HF -> Megatron (mcore), handed to every node",
            after=("fetch",),
            jobs=("convert",),
        ),
        Stage(
            "infer",
            "asks the base model the smoke questions",
            after=("fetch",),
            jobs=("infer",),
        ),
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
            "rollout",
            "serves the base model to training by reinforcement, if the run asks for it",
            after=("fetch",),
            jobs=("rollout",),
        ),
        Stage(
            "train",
            "training on all nodes, each writing to its own root",
            after=("data", "compare", "rollout"),
            jobs=("train",),
        ),
        Stage(
            "gather",
            "brings the checkpoint to the first node and proves it complete",
            after=("train",),
            jobs=("gather", "gather_ahead"),
        ),
        Stage(
            "export",
            "the checkpoint in the form that is asked for, on the first node",
            after=("gather",),
            jobs=("export", "export_proof", "export_quantize", "export_push"),
        ),
        Stage(
            "eval",
            "runs benchmarks on the exported model, if the run asks for it",
            after=("export",),
            jobs=("eval",),
        ),
        Stage(
            "sample",
            "draws answers of the exported model to the rows, if the run asks for it",
            after=("export",),
            jobs=("sample",),
        ),
        Stage("deploy", "serves the exported model", after=("export",), jobs=("deploy",)),
        Stage("smoke", "asks the endpoint and checks the answers", after=("deploy",)),
    )
}


def stage_of(job: str) -> str:
    """The stage that starts ``job``."""
    return next(stage.name for stage in CATALOG.values() if job in stage.jobs)


def before(name: str) -> frozenset[str]:
    """Every stage that must come before ``name``, near or far."""
    near = CATALOG[name].after
    return frozenset(near).union(*(before(other) for other in near))


def select(
    only: Iterable[str] = (), first: str | None = None, last: str | None = None
) -> tuple[str, ...]:
    """Names of stages in the catalog's order.

    Args:
        only: Exactly these; not together with ``first`` or ``last``.
        first: From this stage on.
        last: Up to and with this stage.

    Raises:
        BadInputError: an unknown stage, both ways at once, or ``last`` before ``first``.
    """
    names, chosen = list(CATALOG), list(only)
    for key, asked in (("only", chosen), ("from", [first]), ("to", [last])):
        for name in asked:
            if name is not None and name not in CATALOG:
                raise BadInputError(
                    Finding(
                        f"{key}: one of {', '.join(CATALOG)}", repr(name), f"--{key}", "name one"
                    )
                )
    if chosen and (first or last):
        raise BadInputError(
            Finding("only, or from and to", "both", "--only", "leave out --only, or the others")
        )
    if chosen:
        return tuple(name for name in names if name in chosen)
    begin = names.index(first) if first else 0
    end = names.index(last) + 1 if last else len(names)
    if begin >= end:
        raise BadInputError(
            Finding(
                f"a stage at or after {first!r}", repr(last), "--to", f"order: {', '.join(names)}"
            )
        )
    return tuple(names[begin:end])
