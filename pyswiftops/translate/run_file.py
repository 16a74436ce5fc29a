"""A translated training command -> the run file that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.keys import KEYS
from pyswiftops.stages.lines import line as flag_table
from pyswiftops.translate.command import Note, Translation

LISTS = {"dataset", "lora_targets", "report_to"}
# What the pipeline itself says, on every node.
OURS = {"mcore_model", "mcore_adapter", "weights_only", "output"}
LAUNCH = {"NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
HERE = LAUNCH | {"CUDA_VISIBLE_DEVICES", "MODELSCOPE_CACHE", "HF_HOME"}
VERBS = {"megatron sft": "sft", "megatron pt": "pt"}


def run_document(
    found: Translation, name: str, model: str | None = None
) -> tuple[dict[str, Any], list[Note]]:
    """The run file's content, and what of the command it does not say.

    Args:
        found: The command, in a line that this version renders.
        name: Of the run.
        model: The HF model, for a command that names a converted one alone.

    Raises:
        BadInputError: it is no training that a run file can say, or names no HF model.
        MatrixError: no flag table for the line.
    """
    table = {flag: neutral for neutral, flag in flag_table(found.to).train.items()}
    if found.verb not in VERBS:
        raise BadInputError(
            Finding(
                " or ".join(VERBS), found.verb, f"line {found.line}", "translate it without --run"
            )
        )
    document: dict[str, Any] = {"name": name, "extra_args": {"train": {}}}
    _put(document, "method.task", VERBS[found.verb])
    _put(document, "method.tuner", "full")  # upstream's own default, as are the next
    _put(document, "training.log_every", 5)
    if "lr_warmup_fraction" not in found.flags:
        _put(document, "training.warmup_fraction", None)
    notes = [Note("note", key, "the fleet file says it") for key in found.env if key in HERE]
    for flag, words in found.flags.items():
        neutral = table.get(flag, "")
        if neutral == "model":
            model = model or words[0]
        elif neutral in OURS or flag in flag_table(found.to).train_always:
            notes.append(Note("note", flag, "the pipeline chooses it itself"))
        else:
            _take(document, neutral, flag, words)
    if model is None:
        raise BadInputError(
            Finding("a HF model", "none in the command", f"line {found.line}", "give --model")
        )
    local = Path(model).is_absolute() or model.startswith((".", "~"))
    document["model"] = {**document.get("model", {}), "path" if local else "id": model}
    env = {key: value for key, value in found.env.items() if key not in HERE}
    if env:
        _put(document, "training.env", env)
    if not document["extra_args"]["train"]:
        del document["extra_args"]
    RunSpec.from_document({"run": document}, Path("run.yml"))
    return document, notes


def _take(document: dict[str, Any], neutral: str, flag: str, words: list[str]) -> None:
    """Put a flag where the run file has a key for it, else among the extra arguments."""
    if neutral in LISTS:
        _put(document, KEYS[neutral], words)
    elif neutral in {"no_optimizer", "no_rng"}:
        if words != ["false"]:
            _put(document, KEYS[neutral], value=False)
    elif neutral in KEYS and len(words) == 1:
        _put(document, KEYS[neutral], _plain(words[0]))
    else:
        values = [_plain(word) for word in words]
        given = values[0] if len(values) == 1 else values or True
        document["extra_args"]["train"][flag] = given


def run_text(document: dict[str, Any]) -> str:
    """The run file."""
    return yaml.safe_dump({"run": document}, sort_keys=False, allow_unicode=True)


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
    document[last] = value


def _plain(word: str) -> Any:
    """A word as a number or truth value; 1e-5 too, which YAML takes for text."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(word.lower(), word)
