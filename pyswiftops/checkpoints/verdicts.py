"""Can training go on from a checkpoint, can it be exported, and if not, why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MEGATRON = ("mcore", "mcore_lora")
SHOWN = 3
FIXED = ("tensor", "pipeline", "context", "expert", "expert_tensor")
"""Parallel sizes that an optimizer's states are bound to; the data parallel size is free."""
LORA_FIXED = ("tensor",)
"""What LoRA's weights themselves are bound to: gate and up lie as each tensor rank had them."""


@dataclass(frozen=True)
class Verdict:
    """An answer with its reasons.

    Attributes:
        possible: The answer.
        reasons: Sentences: why not, or what it takes.
        sizes: Parallel sizes that are asked for, by name; others are free.
    """

    possible: bool
    reasons: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What the verdicts rest on; see :class:`pyswiftops.checkpoints.ledger.Checkpoint`.

    Attributes:
        unproven: Why nothing can be said of completeness; empty where something can.
        silent: Nodes that did not answer.
    """

    kind: str
    complete: bool
    writing: bool
    missing: tuple[str, ...]
    short: tuple[str, ...]
    conflicts: tuple[str, ...]
    unproven: str
    silent: tuple[str, ...]
    hf_complete: bool
    whole_on: str
    has_optimizer: bool | None
    has_rng: bool | None
    reshardable: bool | None
    parallel: Mapping[str, int]


def first_few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def count_of(names: Sequence[str]) -> str:
    """``1 file`` or ``2 files``."""
    return f"{len(names)} file" + ("" if len(names) == 1 else "s")


def _obstacles(facts: Facts) -> list[str]:
    """Why a checkpoint is of no use as it is."""
    found = ["it may still be written"] if facts.writing else []
    found += [facts.unproven] if facts.unproven else []
    if facts.missing:
        found.append(f"{count_of(facts.missing)} on no node: {first_few(facts.missing)}")
    if facts.short:
        found.append(f"{count_of(facts.short)} not whole: {first_few(facts.short)}")
    found += facts.conflicts
    if facts.silent and not facts.complete:
        found.append(f"{first_few(facts.silent)} did not answer, and may hold what is missing")
    return found


def can_resume(facts: Facts) -> Verdict:
    """Whether training can go on from it, and at which parallel sizes.

    States of a distributed optimizer load at other tensor, pipeline and expert sizes only where
    they were saved fully reshardable; the random state is left out when sizes change
    (``load_mcore_checkpoint`` of ms-swift's ``megatron_lm_utils.py``).
    """
    obstacles = _obstacles(facts)
    if obstacles:
        return Verdict(possible=False, reasons=tuple(obstacles))
    if not facts.has_optimizer:
        return Verdict(possible=False, reasons=(_weights_alone(facts),))
    reasons = []
    if facts.kind in MEGATRON:
        weights: tuple[str, ...] = LORA_FIXED if facts.kind == "mcore_lora" else ()
        bound = weights if facts.reshardable else FIXED
        sizes = {name: facts.parallel[name] for name in bound if name in facts.parallel}
        reasons.append(_at_sizes(facts, sizes))
        if not facts.has_rng:
            reasons.append("it has no random state: --no_load_rng true")
    else:
        sizes = {"world": facts.parallel["world"]} if "world" in facts.parallel else {}
        reasons.append("swift sft --resume_from_checkpoint, with as many processes as before")
    return Verdict(possible=True, reasons=tuple(reasons), sizes=sizes)


def _weights_alone(facts: Facts) -> str:
    if facts.kind in MEGATRON:
        sizes = "its tensor size" if facts.kind == "mcore_lora" else "any sizes"
        return f"it has no optimizer: its weights can be taken at {sizes}, --finetune true"
    return "it has no optimizer: its weights can be taken as a model"


def _at_sizes(facts: Facts, sizes: Mapping[str, int]) -> str:
    lora = facts.kind == "mcore_lora"
    if facts.reshardable:
        tensor = "its tensor size and any other" if lora else "any"
        return f"at {tensor} parallel sizes: its optimizer is fully reshardable"
    if not sizes:
        return "at the parallel sizes that it was saved at, which args.json does not tell"
    told = ", ".join(f"{name} {size}" for name, size in sizes.items())
    never = "at another tensor size not at all, " if lora else ""
    return f"at {told}, any data parallel size; {never}at others its weights alone, --finetune true"


def can_export(facts: Facts) -> Verdict:
    """Whether it can become a Hugging Face model, and what that takes."""
    if facts.kind in MEGATRON and not facts.complete and facts.hf_complete:
        note = "its shards are not complete, its Hugging Face form beside them is"
        return Verdict(possible=not facts.writing, reasons=(note,))
    obstacles = _obstacles(facts)
    if obstacles:
        return Verdict(possible=False, reasons=tuple(obstacles))
    reasons = {
        "mcore": [],
        "mcore_lora": ["with the base model that it was trained on"],
        "hf": ["it is in Hugging Face's format already"],
        "hf_lora": ["to be merged into its base model, or served as adapters"],
    }[facts.kind]
    if not facts.whole_on:
        reasons.append("after its files were gathered on one node")
    return Verdict(possible=True, reasons=tuple(reasons))
