"""What each release line can do, found in its flag tables, and how well that is proven."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pyswiftops import matrix
from pyswiftops.errors import MatrixError
from pyswiftops.stages.lines import line

Proof = Literal["run", "parser", "classes"]
INSTALLED = "4.6"  # the line whose package the tests have: its own parser takes every command


@dataclass(frozen=True)
class Ability:
    """Something that a line can do or not.

    Attributes:
        name: As a matrix row names it where it was run.
        label: In words.
        what: The key of the line's verbs.
        task: The verb's task, where it trains.
        settings: Neutral settings that ask for it.
    """

    name: str
    label: str
    what: str
    task: str
    settings: dict[str, Any]


def _megatron() -> Iterator[Ability]:
    yield Ability("convert", "HF to mcore", "convert", "sft", {"to_mcore": True})
    kinds: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("full", "SFT, whole weights", "sft", {"tuner": "full"}),
        ("lora", "SFT, LoRA", "sft", {"tuner": "lora", "lora_rank": 8}),
        ("pt", "pre-training", "pt", {"tuner": "full"}),
        *((kind, kind.upper(), "rlhf", {"rlhf_type": kind}) for kind in _PREFERENCES[:5]),
        ("seq_cls", "sequence classification", "sft", {"task_type": "seq_cls"}),
        ("moe", "mixture of experts, expert parallel", "sft", {"expert": 8}),
        ("multimodal", "multimodal, parts frozen", "sft", {"freeze_vit": True}),
        ("fp8", "FP8", "sft", {"fp8": "e4m3", "fp8_recipe": "blockwise"}),
        ("pipeline", "pipeline parallel", "sft", {"pipeline": 2}),
        ("context", "context parallel", "sft", {"context": 2}),
        ("resume", "resume, whole weights", "sft", {"mcore_model": "m", "weights_only": False}),
        (
            "resume_lora",
            "resume, LoRA",
            "sft",
            {"mcore_adapter": "a", "weights_only": False},
        ),
        ("bridge", "HF weights without convert", "sft", {"load_hf": True}),
    )
    for name, label, task, settings in kinds:
        yield Ability(name, f"megatron: {label}", "train", task, settings)


def _plain() -> Iterator[Ability]:
    for name, label, settings in (
        ("full", "SFT, whole weights", {"tuner": "full"}),
        ("lora", "SFT, LoRA", {"tuner": "lora"}),
        ("deepspeed", "DeepSpeed", {"deepspeed": "zero3"}),
        ("fsdp", "FSDP", {"fsdp": "full_shard"}),
        ("sequence", "sequence parallel", {"context": 2}),
        ("resume", "resume", {"checkpoint": "c", "weights_only": False}),
    ):
        yield Ability(f"plain_{name}", f"swift: {label}", "plain", "sft", settings)
    for kind in _PREFERENCES:
        settings = {"rlhf_type": kind}
        yield Ability(f"plain_{kind}", f"swift: {kind.upper()}", "plain", "rlhf", settings)


def _after() -> Iterator[Ability]:
    lora = {"mcore_adapter": "a"}
    for name, label, settings in (
        ("export", "export: whole weights to HF", {"mcore_model": "m", "to_hf": True}),
        (
            "export_lora",
            "export: LoRA merged to HF",
            {**lora, "to_hf": True, "merge_lora": True},
        ),
        (
            "export_mcore",
            "export: LoRA merged to mcore",
            {**lora, "to_mcore": True, "merge_lora": True},
        ),
        ("export_adapters", "export: adapters alone", {**lora, "to_hf": True, "merge_lora": False}),
    ):
        yield Ability(name, label, "export", "sft", settings)
    yield Ability("infer", "infer", "infer", "sft", {"backend": "transformers"})
    yield Ability("deploy", "deploy", "deploy", "sft", {"backend": "transformers"})
    adapters = {"adapters": ["a"]}
    yield Ability("deploy_adapters", "deploy: adapters beside the base", "deploy", "sft", adapters)
    yield Ability("eval", "eval", "eval", "sft", {"eval_datasets": ["gsm8k"]})
    yield Ability("sample", "sample", "sample", "sft", {"answers_each": 4})
    yield Ability("rollout", "rollout", "rollout", "sft", {"port": 8000})


_PREFERENCES = ("dpo", "kto", "rm", "grpo", "gkd", "orpo", "simpo", "cpo", "ppo")
ABILITIES = (*_megatron(), *_plain(), *_after())


def proofs(name: str) -> dict[str, Proof | None]:
    """Ability -> how it is proven of a line; None where the line cannot do it.

    ``run``: a pipeline here did it. ``parser``: the installed package's own parser takes the
    command. ``classes``: the argument classes of the release have every flag, with its type.

    Raises:
        MatrixError: an unknown line.
    """
    table, ran = line(name), matrix.row(name).run
    found: dict[str, Proof | None] = {}
    for ability in ABILITIES:
        try:
            table.flags(ability.what, ability.task, ability.settings)
        except MatrixError:
            found[ability.name] = None
            continue
        otherwise: Proof = "parser" if name == INSTALLED else "classes"
        found[ability.name] = "run" if ability.name in ran else otherwise
    return found
