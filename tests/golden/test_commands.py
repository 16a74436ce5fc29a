"""Golden files: the whole commands of a run, one file a case.

``REGENERATE=1 pytest tests/golden`` writes them anew; read the diff before you commit it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import matrix
from pyswiftops.errors import MatrixError
from pyswiftops.planner.commands import resume_needs
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.planner.reasons import OURS
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages import lines
from pyswiftops.stages.command import Command, Late
from pyswiftops.stages.render import RENDERERS, program

sys.path.insert(0, str(Path(__file__).parent))
from cases import AT, CASES, HOSTILE, plan_of

FOLDER = Path(__file__).parent / "commands"

# Of older lines, cases that show what changed between them.
OLDER = [
    ("small-gpu", "2.6"),
    ("small-gpu", "3.6"),
    ("zero3-gpu", "2.6"),
    ("lora-gpu", "3.7"),
    ("dpo-gpu", "3.10"),
    ("moe-gpu", "3.12"),
    ("resume-lora-cpu", "4.0"),
]


@pytest.mark.parametrize(("case", "line"), [*((case, "4.6") for case in CASES), *OLDER])
def test_commands_are_as_recorded(case: str, line: str) -> None:
    recorded = FOLDER / (f"{case}.sh" if line == "4.6" else f"{case}-{line}.sh")
    text = plan_of(case, line).text()
    if os.environ.get("REGENERATE"):
        recorded.write_text(text, encoding="utf-8")
    assert text == recorded.read_text(encoding="utf-8")


def fits(kind: str, words: Sequence[object]) -> bool:
    """Whether the words after a flag are of its type, as ``type = default`` of an inventory."""
    kind = kind.split(" = ", maxsplit=1)[0]
    if any(isinstance(word, Late) for word in words) or "Dict" in kind:
        return True  # not known before the run, or JSON
    if not words or (len(words) > 1 and not kind.lower().startswith(("list", "optional[list"))):
        return False
    patterns = {"int": r"[+-]?\d+", "float": r"[+-]?[\d.]+(e[+-]?\d+)?", "bool": "true|false"}
    named = [pattern for name, pattern in patterns.items() if re.search(rf"\b{name}\b", kind)]
    literals = re.findall(r"'([^']*)'|(?<=[\[ ])(\d+)(?=[,\]])", kind)
    literals = [text or number for text, number in literals]
    if re.search(r"\bstr\b", kind):
        return True
    return all(
        word in literals or any(re.fullmatch(pattern, str(word)) for pattern in named)
        for word in words
    )


def test_a_word_of_another_type_does_not_fit() -> None:
    assert fits("Optional[int] = None", ["8"])
    assert not fits("Optional[int] = None", ["8.5"])
    assert not fits("int = 1", ["1", "2"])
    assert not fits("bool = False", ["yes"])
    assert fits("List[str] = list()", ["a", "b"])
    assert not fits("Literal['nccl', 'gloo'] = 'nccl'", ["mpi"])
    assert fits("Literal[1, 4, 'float8'] = None", ["4"])
    assert not fits("Literal[1, 4, 'float8'] = None", ["5"])


@pytest.mark.parametrize("line", lines.rendered())
@pytest.mark.parametrize("case", CASES)
def test_every_rendered_flag_is_one_of_the_line_and_of_its_type(case: str, line: str) -> None:
    """Truncated names would be accepted by upstream's parser, so names must match in full."""
    try:
        plan, inventory = plan_of(case, line), matrix.typed_flags(line)
    except MatrixError as problem:
        able = problem.findings[0].remedy
        assert re.fullmatch(r"lines that (can|train on CPU): (\d\.\d+(, )?)+", able), able
        assert line not in able.split(": ")[1].split(", ")
        return
    for job, commands in plan.jobs.items():
        if job in OURS or not commands:
            continue  # our own helpers, or nothing to do
        typed = program(job.removeprefix("roundtrip_"), plan.spec, line)
        known = inventory[typed]
        for command in commands:
            for flag, words in flags_of(command):
                assert flag in known, f"{job}: --{flag} is no flag of {typed}"
                assert fits(known[flag], words), f"{job}: --{flag} {words} is no {known[flag]}"


def flags_of(command: Command) -> Iterator[tuple[str, list[object]]]:
    """Flags without dashes, each with the words up to the next."""
    words = list(command.argv)
    marks = [n for n, word in enumerate(words) if isinstance(word, str) and word.startswith("--")]
    for begin, end in itertools.pairwise([*marks, len(words)]):
        yield str(words[begin])[2:], words[begin + 1 : end]


PLAIN_SWIFT = {"zero3-gpu", "fsdp-gpu", "swift-cpu"}
# Of some lines, the cases that it can say.
SAYABLE = {
    "2.6": {"small-gpu", "zero3-gpu"},
    "3.6": PLAIN_SWIFT | {"small-gpu"},
    "3.8": PLAIN_SWIFT
    | {"small-gpu", "lora-gpu", "hub-gpu", "seq-cls-gpu", "moe-gpu"}
    | {"awq-push-gpu", "fp8-push-gpu", "bnb-gpu"},
}


@pytest.mark.parametrize("line", lines.rendered())
def test_what_a_line_can_say(line: str) -> None:
    said = set()
    for case in CASES:
        try:
            plan_of(case, line)
        except MatrixError:
            continue
        said.add(case)
    if line in SAYABLE:
        assert said == SAYABLE[line]
    else:
        assert "small-gpu" in said
    if line.startswith("4."):
        assert said == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_survives_json(case: str) -> None:
    plan = plan_of(case)
    read = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert read.to_dict() == plan.to_dict()
    for commands in plan.jobs.values():
        for command in commands:
            assert Command.from_dict(json.loads(json.dumps(command.to_dict()))) == command


def test_a_plan_of_a_version_without_a_job_has_no_commands_of_it() -> None:
    data = json.loads(json.dumps(plan_of("lora-cpu").to_dict()))
    del data["jobs"]["export_proof"]
    plan = Plan.from_dict(data)
    assert plan.commands("export_proof") == ()
    assert plan.to_dict() == data  # and is the same plan, so that its run goes on
    assert plan.text()


def test_hostile_paths_arrive_byte_for_byte() -> None:
    (train,) = plan_of("hostile-paths").jobs["train"]
    bound = train.bind({"lease.master_port": 1, "data.max_length": 8, "train.checkpoint": "no"})
    words = shlex.split(bound.shell())
    assert words[words.index("--dataset") + 1] == HOSTILE
    assert words[words.index("--model") + 1] == HOSTILE
    assert bound.argv[bound.argv.index("--dataset") + 1] == HOSTILE


def test_nodes_differ_only_in_rank_and_in_their_own_folders() -> None:
    first, second = plan_of("lora-cpu").jobs["train"]
    moved = [
        word.replace("/fleet/node-1", "/fleet/node-2") if isinstance(word, str) else word
        for word in first.argv
    ]
    assert tuple(moved) == second.argv
    changed = {name for name in first.env if first.env[name] != second.env[name]}
    assert changed == {"NODE_RANK", "HF_HOME", "MODELSCOPE_CACHE", "TMPDIR"}
    assert first.env["MASTER_PORT"] == Late("lease.master_port")


def test_steps_that_are_not_logged_get_their_time_too() -> None:
    fleet, run = CASES["lora-cpu"]
    training = {**run["training"], "hang_timeout": 60, "log_every": 5}
    spec = RunSpec.from_document({"run": {**run, "training": training}}, AT)
    plan = make_plan(Fleet.from_document(fleet, AT), spec, "x")
    assert {command.hang_timeout for command in plan.jobs["train"]} == {300}


def test_every_job_of_the_catalog_has_a_renderer() -> None:
    assert set(RENDERERS) == set(plan_of("lora-cpu").jobs)


def test_a_late_value_that_is_missing_is_named() -> None:
    (export,) = plan_of("lora-cpu").jobs["export"]
    with pytest.raises(KeyError, match=r"train\.checkpoint is not known yet on node-1"):
        export.bind({"lease.master_port": 1})


@pytest.mark.parametrize(
    ("case", "tuner", "more"),
    [
        ("resume-lora-cpu", "lora", {"lora_rank": 8, "no_save_optim": False, "no_save_rng": False}),
        ("restart-full-gpu", "full", {}),
        (
            "resume-full-gpu",
            "full",
            {
                "no_save_optim": False,
                "no_save_rng": False,
                "tensor_model_parallel_size": 4,
                "pipeline_model_parallel_size": 2,
            },
        ),
    ],
)
def test_what_a_checkpoint_must_be_to_go_on_from(
    case: str, tuner: str, more: dict[str, Any]
) -> None:
    fleet, run = CASES[case]
    variables = Fleet.from_document(fleet, AT).host_vars()
    assert resume_needs(run, variables) == {"tuner_type": tuner, **more}


# Settings that a run file may leave to upstream, and of those the ones whose default is another in
# some line. None of them is relied on: what must be so is always said.
LEFT_OPEN = (
    "beta",
    "deepspeed",
    "expert",
    "fp8",
    "fp8_recipe",
    "freeze_aligner",
    "freeze_llm",
    "freeze_vit",
    "fsdp",
    "keep",
    "min_learning_rate",
    "model_type",
    "no_optimizer",
    "no_rng",
    "num_labels",
    "sequence",
    "system",
    "task_type",
    "template",
)
DIFFER = {
    ("train", "min_learning_rate"): {"None", "0"},  # 2.6 works it out: 0 too
    ("train", "beta"): {"0.1", "None"},  # 0.1 for DPO either way
    ("train", "template"): {"'AUTO'", "None"},  # the model's own, in both words
    ("plain", "template"): {"'AUTO'", "None"},
    ("plain", "fsdp"): {"''", "None"},
    ("plain", "freeze_vit"): {"False", "True"},  # 2.6 trains it
    ("plain", "keep"): {"2", "None"},  # 2.6 keeps two
}


def test_what_is_left_to_upstream_has_one_default_in_all_lines_but_for_what_is_known() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for line, table in lines.rendered().items():
        for what, setting in itertools.product(("train", "plain"), LEFT_OPEN):
            verb = table.verbs[what]
            flag = verb.flags.get(setting)
            kind = matrix.typed_flags(line)[verb.program.format(task="sft")].get(str(flag))
            if kind is not None:
                found.setdefault((what, setting), set()).add(kind.partition(" = ")[2])
    assert {key: values for key, values in found.items() if len(values) > 1} == DIFFER
