"""Golden files: the whole commands of a run, one file a case.

``REGENERATE=1 pytest tests/golden`` writes them anew; read the diff before you commit it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import matrix
from pyswiftops.planner.commands import resume_needs
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages import lines
from pyswiftops.stages.command import Command, Late
from pyswiftops.stages.render import RENDERERS, verb

FOLDER = Path(__file__).parent / "commands"
AT = Path("/nowhere/run.yml")

CPU_FLEET: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "local",
    "device": "cpu",
    "root": "/fleet",
    "python": "/venv/bin/python",
    "nodes": [{"name": "node-1"}, {"name": "node-2"}],
}
GPU_FLEET: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "container",
    "root": "/data/swiftops",
    "python": "/opt/swift/bin/python",
    "training_interface": "eth0",
    "nodes": [
        {"name": "node-1", "address": "10.0.0.1", "gpus": 8},
        {"name": "node-2", "address": "10.0.0.2", "gpus": 8},
    ],
}
LORA: dict[str, Any] = {
    "name": "lora",
    "model": {"path": "/models/m", "model_type": "llama", "template": "chatml"},
    "data": {"train": ["/data/rows.jsonl"]},
    "training": {"iterations": 10, "micro_batch_size": 4, "global_batch_size": 8},
    "parallel": {"pipeline": 2},
    "smoke": {"questions": [{"ask": "Who are you?", "expect": ["Swifty"]}]},
}
FULL: dict[str, Any] = {
    "name": "full",
    "model": {"path": "/models/m"},
    "data": {"train": ["/data/a.jsonl", "/data/b.jsonl"], "system": "Be kind.", "max_length": 4096},
    "method": {"tuner": "full", "task": "pt"},
    "training": {
        "epochs": 1,
        "global_batch_size": 64,
        "learning_rate": 1e-5,
        "min_learning_rate": 1e-6,
        "save_every": 100,
        "recompute": "full",
        "env": {"NCCL_IB_HCA": "mlx5_0,mlx5_1", "NCCL_SOCKET_IFNAME": "eth1"},
    },
    "parallel": {"tensor": 4, "pipeline": 2, "context": 2, "expert": 2, "sequence": True},
    "output": {"save_optimizer": False, "save_safetensors": True, "keep": 2},
    "tracking": {"report_to": ["wandb", "swanlab"], "project": "p", "experiment": "e"},
    "deploy": {"port": 8000, "served_name": "s"},
    "extra_args": {"train": {"recompute_method": "uniform", "recompute_num_layers": 1}},
}
RESUME = {"name": "second", "resume": {"from": "first"}}
RESTART = {"resume": {"from": "/checkpoints/full/checkpoint-20", "mode": "restart"}}
HOSTILE = "/a b/c'd\";rm -rf $HOME`id`{{ x }}{train.checkpoint}/模型"

CASES = {
    "lora-cpu": (CPU_FLEET, LORA),
    "lora-gpu": (GPU_FLEET, LORA),
    "full-gpu": (GPU_FLEET, FULL),
    "hub-gpu": (
        {
            **GPU_FLEET,
            "hub": {
                "huggingface_endpoint": "https://mirror.example.com",
                "proxy": "http://proxy.example.com:3128",
            },
        },
        {
            **LORA,
            "model": {"id": "Qwen/Qwen2.5-7B-Instruct", "revision": "refs/pr/1"},
            "data": {
                "train": [
                    "HF::owner/rows:a/b#500",
                    {"path": "/data/b.jsonl", "at": "controller", "rows": 7},
                    {"path": "/data/folder", "at": "first_node"},
                ]
            },
        },
    ),
    "resume-lora-cpu": (CPU_FLEET, {**LORA, **RESUME}),
    "resume-full-gpu": (GPU_FLEET, {**FULL, **RESUME}),
    "restart-full-gpu": (GPU_FLEET, {**FULL, **RESTART}),
    "hostile-paths": (
        {**CPU_FLEET, "root": HOSTILE, "nodes": [{"name": "node-1"}]},
        {
            **LORA,
            "model": {"path": HOSTILE},
            "data": {"train": [HOSTILE], "system": HOSTILE},
            "parallel": {},
        },
    ),
}


def plan_of(case: str, line: str = "4.6") -> Plan:
    fleet, run = CASES[case]
    spec = RunSpec.from_document({"run": run}, AT)
    return make_plan(Fleet.from_document({**fleet, "line": line}, AT), spec, spec.name)


@pytest.mark.parametrize("case", CASES)
def test_commands_are_as_recorded(case: str) -> None:
    recorded = FOLDER / f"{case}.sh"
    text = plan_of(case).text()
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
    literals = re.findall(r"'([^']*)'", kind)
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


@pytest.mark.parametrize("line", lines.rendered())
@pytest.mark.parametrize("case", CASES)
def test_every_rendered_flag_is_one_of_the_line_and_of_its_type(case: str, line: str) -> None:
    """Truncated names would be accepted by upstream's parser, so names must match in full."""
    plan, inventory = plan_of(case, line), matrix.typed_flags(line)
    verbs = {"train": f"megatron {plan.spec.method.task}"}
    for job, commands in plan.jobs.items():
        if job in {"fetch", "data"}:
            continue  # our own helpers
        program = verb(job.split("_")[-1].replace("roundtrip", "export"), plan.spec)
        program = verbs.get(job, program)
        known = inventory[program]
        for command in commands:
            for flag, words in flags_of(command):
                assert flag in known, f"{job}: --{flag} is no flag of {program}"
                assert fits(known[flag], words), f"{job}: --{flag} {words} is no {known[flag]}"


def flags_of(command: Command) -> Iterator[tuple[str, list[object]]]:
    """Flags without dashes, each with the words up to the next."""
    words = list(command.argv)
    marks = [n for n, word in enumerate(words) if isinstance(word, str) and word.startswith("--")]
    for begin, end in itertools.pairwise([*marks, len(words)]):
        yield str(words[begin])[2:], words[begin + 1 : end]


@pytest.mark.parametrize("case", CASES)
def test_a_plan_survives_json(case: str) -> None:
    for commands in plan_of(case).jobs.values():
        for command in commands:
            assert Command.from_dict(json.loads(json.dumps(command.to_dict()))) == command


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
