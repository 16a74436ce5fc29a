"""Upstream's own examples: read, written again, and rendered again out of a run file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops import matrix
from pyswiftops.errors import BadInputError
from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.translate import Translation, translate
from pyswiftops.translate.run_file import VERBS, run_document, run_text

DOCUMENT = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
LINE, COMMANDS = DOCUMENT["line"], DOCUMENT["commands"]
TRAININGS = [item for item in COMMANDS if item["verb"] in VERBS]
TRAINED = {
    "swift sft": 109,
    "swift rlhf": 67,
    "megatron sft": 41,
    "megatron rlhf": 25,
    "swift pt": 2,
    "megatron pt": 1,
}
# Why the run file cannot say them.
CACHED = "examples/train/cached_dataset"
NOT_SAID = {
    # Adapters in one part of the model and whole weights in another.
    "examples/megatron/multimodal/lora_llm_vit_full/sft.sh": "'lora_llm'",
    # Rows that were made ready before, by another command.
    **{f"{CACHED}/{name}.sh": "key 'train'" for name in ("mcore", "dpo", "pretrained", "vlm")},
    **{f"{CACHED}/{name}.sh": "key 'train'" for name in ("reranker", "seq_cls", "sft")},
    # Words that someone or something else fills in: a person, or a scheduler.
    "examples/train/seq_cls/multi_label/sft.sh": "num_labels",
    "examples/train/grpo/multi_node/train_dlc.sh": "NNODES",
    "examples/train/multi-node/dlc/train.sh": "NNODES",
    # All it says stands in another file.
    "examples/train/multi-node/ray/sft.sh": "key 'data'|key 'train'|a HF model",
}
# What the pipeline chooses on each node; rows of hubs lie in a folder there.
OURS = {"output_dir", "mcore_model", "mcore_adapter", "finetune", "model", "dataset"}
# Said although the example leaves it to upstream: precision as of the model, no hub at the start.
MORE = {"torch_dtype", "check_model", "add_version", "report_to", "max_length"}
# Where these are missing, upstream finds them by itself; a run file says what it found.
FOUND = {"gradient_accumulation_steps", "learning_rate", "num_train_epochs"}


def as_translation(item: dict[str, Any]) -> Translation:
    return Translation(1, LINE, LINE, item["verb"], item["env"], item["flags"])


def same(words: list[str], others: list[str]) -> bool:
    def plain(word: str) -> object:
        try:
            return float(word)
        except ValueError:
            return word

    return list(map(plain, words or ["true"])) == list(map(plain, others or ["true"]))


def test_all_scripts_of_the_tag_are_there() -> None:
    paths = {item["path"] for item in COMMANDS}
    assert sum(path.startswith("examples/megatron/") for path in paths) == 70
    assert sum(path.startswith("examples/train/") for path in paths) == 199
    # its only command stands in a comment
    assert DOCUMENT["without"] == ["examples/train/grpo/internal/full_lmdeploy.sh"]
    assert Counter(item["verb"] for item in TRAININGS) == TRAINED


# A run file says a training and what follows it; of scripts that do one of these alone it has
# nothing to say. They are read and written again all the same.
ALONE = {"swift infer": 22, "swift export": 11, "megatron export": 8, "swift rollout": 8}


def test_scripts_without_a_training_are_counted() -> None:
    training = {item["path"] for item in TRAININGS}
    others = [item for item in COMMANDS if item["verb"] not in VERBS]
    assert Counter(item["verb"] for item in others) == {**ALONE, "swift deploy": 3}
    assert len({item["path"] for item in others} - training) == 25
    assert len(training) == 244


def test_every_flag_of_every_example_is_in_the_inventory_and_stays() -> None:
    for item in COMMANDS:
        (found,) = translate(as_translation(item).text(), LINE, LINE)
        assert found.flags == item["flags"], item["path"]
        assert set(item["flags"]) <= matrix.flags(LINE)[item["verb"]], item["path"]


@pytest.mark.parametrize("item", TRAININGS, ids=lambda item: item["path"])
def test_a_training_goes_through_a_run_file(item: dict[str, Any], tmp_path: Path) -> None:
    model = None if "model" in item["flags"] else "owner/model"
    if item["path"] in NOT_SAID:
        with pytest.raises(BadInputError, match=NOT_SAID[item["path"]]):
            run_document(as_translation(item), "r", model)
        return
    document, _ = run_document(as_translation(item), "r", model)
    spec = RunSpec.from_document(yaml.safe_load(run_text(document)), tmp_path / "run.yml")
    gpus = item["env"].get("NPROC_PER_NODE", "1" if item["verb"].startswith("swift") else "8")
    nodes = [
        {"name": f"node-{n}", "address": f"10.0.0.{n}", "gpus": int(gpus)}
        for n in range(1, 3 if "NNODES" in item["env"] else 2)
    ]
    fleet = {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "root": "/r", "line": LINE}
    plan = make_plan(Fleet.from_document({**fleet, "nodes": nodes}, tmp_path / "f"), spec, "r")
    rendered: dict[str, list[str]] = {}
    for word in map(str, plan.jobs["train"][0].argv[2:]):
        if word.startswith("--"):
            words = rendered[word[2:]] = []
        else:
            words.append(word)
    known = matrix.typed_flags(LINE)[item["verb"]]
    for flag, given in item["flags"].items():
        usual = known[flag].partition(" = ")[2] if flag not in rendered else ""
        if flag == "num_train_epochs" and {"train_iters", "max_steps"} & set(item["flags"]):
            continue  # the number of steps wins
        if flag == "save_total_limit" and given == ["-1"]:
            assert flag not in rendered  # all are kept
            continue
        assert flag in OURS or same(rendered.get(flag, [usual]), given), flag
    for flag, words in rendered.items():
        default = known[flag].partition(" = ")[2]
        plain = default.strip("[']").replace("True", "true").replace("False", "false")
        told = flag in item["flags"] or flag in OURS | MORE | FOUND
        assert told or same(words, [plain]), f"--{flag} {words}, and upstream has {default}"
