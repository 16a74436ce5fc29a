"""A translated training command -> the run file that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.matrix import typed_flags
from pyswiftops.specs.environment import SECRET
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.keys import KEYS
from pyswiftops.stages.lines import Verb
from pyswiftops.stages.lines import line as flag_table
from pyswiftops.translate.command import Note, Translation

LISTS = {"dataset", "lora_targets", "report_to"}
# What the pipeline itself says, on every node.
OURS = {"mcore_model", "mcore_adapter", "weights_only", "output", "checkpoint"}
LAUNCH = {"NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
HERE = LAUNCH | {"CUDA_VISIBLE_DEVICES", "MODELSCOPE_CACHE", "HF_HOME"}
VERBS = {
    f"{program} {task}": (backend, task)
    for program, backend in (("megatron", "megatron"), ("swift", "swift"))
    for task in ("sft", "pt", "rlhf")
}
TUNERS = {"lora", "full"}
# What upstream does where a command says nothing, and a run file something else.
UNSAID: dict[str, dict[str, Any]] = {
    "megatron": {
        "method.tuner": "full",
        "training.log_every": 5,
        "training.save_every": 500,
        "training.warmup_fraction": None,
    },
    "swift": {
        "method.tuner": "lora",
        "training.log_every": 5,
        "training.save_every": 500,
        "training.warmup_fraction": None,
        "training.micro_batch_size": 1,
    },
}


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
    if found.verb not in VERBS:
        raise BadInputError(
            Finding(
                f"one of {', '.join(VERBS)}",
                found.verb,
                f"line {found.line}",
                "translate it without --run",
            )
        )
    backend, task = VERBS[found.verb]
    verb = flag_table(found.to).verb("plain" if backend == "swift" else "train")
    document: dict[str, Any] = {"name": name, "extra_args": {"train": {}}}
    _put(document, "method.task", task)
    if backend == "swift":
        _put(document, "method.backend", backend)
    for key, value in UNSAID[backend].items():
        _put(document, key, value)
    if task == "rlhf":
        _put(document, "method.rlhf.type", "dpo")
    saves = typed_flags(found.to)[found.verb].get("save_safetensors", "")
    if backend == "megatron" and saves.endswith("= True"):
        _put(document, "output.save_safetensors", value=True)
    notes = [Note("note", key, "the fleet file says it") for key in found.env if key in HERE]
    model = _flags(document, found, verb, notes, model)
    if backend == "swift":
        _batch(document, found)
    _length(document, backend, notes)
    if model is None:
        raise BadInputError(
            Finding("a HF model", "none in the command", f"line {found.line}", "give --model")
        )
    local = Path(model).is_absolute() or model.startswith((".", "~"))
    document["model"] = {**document.get("model", {}), "path" if local else "id": model}
    secrets = [key for key in found.env if SECRET.search(key)]
    notes += [Note("dropped", key, "a secret; swiftops takes it apart") for key in secrets]
    env = {key: value for key, value in found.env.items() if key not in {*HERE, *secrets}}
    if env:
        _put(document, "training.env", env)
    if not document["extra_args"]["train"]:
        del document["extra_args"]
    RunSpec.from_document({"run": document}, Path("run.yml"))
    return document, notes


def _flags(
    document: dict[str, Any],
    found: Translation,
    verb: Verb,
    notes: list[Note],
    model: str | None,
) -> str | None:
    """Put every flag in its place; returns the model."""
    table = {flag: neutral for neutral, flag in verb.flags.items()}
    for flag, words in found.flags.items():
        neutral = table.get(flag, "")
        if neutral == "model":
            model = model or words[0]
        elif neutral in OURS or flag in verb.always:
            notes.append(Note("note", flag, "the pipeline chooses it itself"))
        else:
            _take(document, verb, neutral, flag, words)
    return model


def _take(document: dict[str, Any], verb: Verb, neutral: str, flag: str, words: list[str]) -> None:
    """Put a flag where the run file has a key for it, else among the extra arguments."""
    if neutral in LISTS:
        _put(document, KEYS[neutral], words)
    elif neutral in {"no_optimizer", "no_rng"}:
        if words != ["false"]:
            _put(document, KEYS[neutral], value=False)
    elif neutral in verb.values and neutral == "recompute":
        _put(document, KEYS[neutral], "none" if words == ["false"] else "full")
    elif neutral == "keep" and words == ["-1"]:
        return  # all of them, as without it
    elif neutral == "tuner" and words[0] not in TUNERS and verb.program.startswith("swift"):
        document["extra_args"]["train"][flag] = words[0]  # another kind of adapters
    elif neutral == "accumulation":
        document["accumulation"] = int(words[0])
    elif neutral in KEYS and len(words) == 1:
        _put(document, KEYS[neutral], _plain(words[0]))
    else:
        values = [_plain(word) for word in words]
        given = values[0] if len(values) == 1 else values or True
        document["extra_args"]["train"][flag] = given


def _batch(document: dict[str, Any], found: Translation) -> None:
    """The global batch of a command that says a rank's batch and how many are added.

    Raises:
        BadInputError: a launcher's number of processes that is none.
    """
    steps = document.pop("accumulation", None)
    ranks = 1
    for variable in ("NPROC_PER_NODE", "NNODES"):
        word = found.env.get(variable, "1")
        if not word.isdigit() or word == "0":
            raise BadInputError(
                Finding("a number", repr(word), f"{variable}, line {found.line}", "write it out")
            )
        ranks *= int(word)
    ranks //= document.get("parallel", {}).get("context", 1)
    rows = document["training"]["micro_batch_size"] * max(ranks, 1)
    rlhf = document["method"].get("rlhf", {}).get("type")
    if steps is None and rlhf == "grpo":
        steps = 1
    if steps is None:  # upstream makes up 16 rows
        steps = max(1, -(-16 // rows))
    _put(document, "training.global_batch_size", rows * steps)


def _length(document: dict[str, Any], backend: str, notes: list[Note]) -> None:
    """How long to train: steps win over epochs upstream too."""
    training = document["training"]
    if training.get("iterations") is not None and training.get("epochs") is not None:
        del training["epochs"]
        notes.append(Note("dropped", "num_train_epochs", "the number of steps is given too"))
    if backend == "swift" and training.get("iterations") is None:
        training.setdefault("epochs", 3)
    if "max_length" not in document.get("data", {}):
        notes.append(Note("note", "max_length", "not given: the longest row is measured"))


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
