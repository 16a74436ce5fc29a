"""Presets of ``inventory/example/presets``: what the field starts by hand, out of a run file.

The flags below are those of the documents that this project was made from (their number is in the
comment); paths are the run's own and not compared.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops import matrix
from pyswiftops.errors import BadInputError
from pyswiftops.planner.commands import check
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.lines import rendered
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.translate import translate
from pyswiftops.translate.run_file import run_document

sys.path.insert(0, str(Path(__file__).parent))
from test_commands import fits, flags_of

FOLDER = Path(__file__).parents[2] / "inventory" / "example" / "presets"
SIZES = {"glm-4.5-air-lora": "1x8", "glm-4.5-air-full": "4x8", "qwen3-235b-lora-export": "4x8"}
RUNS = sorted(path.stem for path in FOLDER.glob("*.yml") if not path.stem.startswith("fleet-"))
CHECKOUTS = {"MEGATRON_LM_PATH": "/mnt/workspace/Megatron-LM", "PAI_MEGATRON_PATCH_PATH": "/pai"}


def size_of(run: str) -> str:
    if "self-cognition" in run:
        return "1x2"
    return SIZES.get(run) or run.rsplit("-", 1)[1]


def plan_of(run: str, line: str, size: str | None = None, **changes: Any) -> Plan:
    at = FOLDER / f"fleet-{size or size_of(run)}.yml"
    document = yaml.safe_load(at.read_text(encoding="utf-8"))
    fleet = Fleet.from_document({**document, "line": line, "env": CHECKOUTS}, at)
    spec = RunSpec.load(FOLDER / f"{run}.yml").model_copy(update=changes)
    return make_plan(fleet, spec, spec.name)


def findings(plan: Plan) -> list[str]:
    nodes = nodes_from_vars(plan.fleet.host_vars())
    return [str(finding) for finding in check(plan.spec, nodes, {})]


COGNITION = {  # 002
    "tensor_model_parallel_size": "2",
    "sequence_parallel": "true",
    "micro_batch_size": "16",
    "global_batch_size": "16",
    "recompute_granularity": "full",
    "recompute_method": "uniform",
    "recompute_num_layers": "1",
    "finetune": "true",
    "cross_entropy_loss_fusion": "true",
    "lr": "1e-5",
    "lr_warmup_fraction": "0.05",
    "min_lr": "1e-6",
    "max_epochs": "1",
    "save_interval": "100",
    "max_length": "2048",
    "system": "You are a helpful assistant.",
    "num_workers": "4",
    "no_save_optim": "true",
    "no_save_rng": "true",
    "dataset_num_proc": "4",
    "model_author": "swift",
    "model_name": "swift-robot",
}
CONVERT = {"to_mcore": "true", "torch_dtype": "bfloat16", "test_convert_precision": "true"}
TO_HF = {"to_hf": "true", "torch_dtype": "bfloat16"}
TESTED = {**TO_HF, "test_convert_precision": "true"}
LAUNCHER = {"tensor_model_parallel_size": "8", "max_length": "64000", "max_epochs": "1"}  # 004
ALL = "0,1,2,3,4,5,6,7"
SEEDS = [
    ("qwen2.5-7b-self-cognition", "3.9", "convert", "swift export", (CONVERT, "0")),  # 002
    (
        "qwen2.5-7b-self-cognition",
        "3.12",
        "train",
        "megatron sft",
        ({**COGNITION, "save_safetensors": "false"}, "0,1"),
    ),
    ("qwen2.5-7b-self-cognition", "3.9", "export", "swift export", (TESTED, "0")),
    (
        "qwen2.5-7b-self-cognition-bridge",
        "3.12",
        "train",
        "megatron sft",
        ({**COGNITION, "save_safetensors": "true", "load_safetensors": "true"}, "0,1"),
    ),
    ("glm-4.5-air-lora", "3.9", "convert", "swift export", (CONVERT, "0")),  # 001
    ("glm-4.5-air-lora", "3.9", "export", "swift export", (TESTED, "0")),
    ("glm-4.5-air-lora", "3.7", "export", "swift export", (TESTED, "0")),  # 000
    ("glm-4.5-air-full", "3.9", "export", "swift export", (TESTED, "0")),
    ("qwen3-235b-lora-export", "3.9", "export", "swift export", (TO_HF, ALL)),
    *(
        (
            f"qwen3-32b-agent-{size}",
            "3.7",
            "train",
            "megatron sft",
            (
                {
                    **LAUNCHER,
                    "context_parallel_size": str(context),
                    "micro_batch_size": "8",
                    "save_interval": "50",
                },
                ALL,
            ),
        )
        for size, context in (("4x8", 4), ("8x8", 8), ("12x8", 4))
    ),
    (
        "qwen2.5-72b-agent-8x8",
        "3.7",
        "train",
        "megatron sft",
        (
            {
                **LAUNCHER,
                "context_parallel_size": "8",
                "micro_batch_size": "4",
                "global_batch_size": "32",
            },
            ALL,
        ),
    ),
]


def same(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one.lower() == other.lower()


@pytest.mark.parametrize(("run", "line", "job", "program", "wanted"), SEEDS)
def test_a_preset_renders_to_the_command_of_the_field(
    run: str, line: str, job: str, program: str, wanted: tuple[dict[str, str], str]
) -> None:
    flags, gpus = wanted
    plan = plan_of(run, line)
    assert findings(plan) == []
    for command in plan.jobs[job]:
        assert " ".join(map(str, command.argv[:2])) == program
        known, found = matrix.typed_flags(line)[program], dict(flags_of(command))
        for flag, word in flags.items():
            given = [str(each) for each in found.get(flag, [])]
            usual = known[flag].partition(" = ")[2]  # what upstream does without the flag
            assert same(given[0] if given else usual, word), flag
        assert command.env["CUDA_VISIBLE_DEVICES"] == gpus
        assert command.env["MEGATRON_LM_PATH"] == CHECKOUTS["MEGATRON_LM_PATH"]


@pytest.mark.parametrize(("merged", "flag"), [("mcore", "to_mcore"), ("hf", "to_hf")])
def test_lora_is_merged_in_the_older_line_too(merged: str, flag: str) -> None:
    spec = RunSpec.load(FOLDER / "glm-4.5-air-lora.yml")
    export = spec.export.model_copy(update={"form": merged})
    (command,) = plan_of("glm-4.5-air-lora", "3.9", export=export).jobs["export"]
    found = dict(flags_of(command))
    assert found[flag] == ["true"]
    assert {"mcore_model", "mcore_adapters", "model"} <= set(found)


@pytest.mark.parametrize("run", RUNS)
def test_a_preset_fits_its_fleet_on_the_newest_line(run: str) -> None:
    plan = plan_of(run, "4.6")
    assert findings(plan) == []
    for job, program in (("train", "megatron sft"), ("export", "megatron export")):
        known = matrix.typed_flags("4.6")[program]
        for command in plan.jobs[job]:
            for flag, words in flags_of(command):
                assert fits(known[flag], words), flag


def test_every_preset_can_be_said_in_some_older_line() -> None:
    for run in RUNS:
        sayable = []
        for line in rendered():
            try:
                plan_of(run, line)
            except BadInputError:
                continue
            sayable.append(line)
        assert {"3.12", "4.6"} <= set(sayable), run
        assert "2.6" not in sayable  # no context parallel, no experts, no hub ids of this form


EIGHT_ON_FOUR = """
bash Qwen2.5_72B_agent_sft.sh --ips "10.0.8.7,10.0.8.8,10.0.8.9,10.0.8.11" --ssh_password "<P>" \\
    --save /path/to/output --dataset /path/to/jsonl --port 29900 --micro_bs 4 --global_bs 32 \\
    --tensor_model_parallel_size 8 --context_parallel_size 8 --max_length 64000 --epochs 1 \\
    --save_interval 50
"""  # 004, as it stands there under 8x8


def test_the_example_for_eight_machines_that_names_four_is_refused(tmp_path: Path) -> None:
    (found,) = translate(EIGHT_ON_FOUR, "3.7")
    assert found.addresses == ("10.0.8.7", "10.0.8.8", "10.0.8.9", "10.0.8.11")
    document, _ = run_document(found, "agent", "/models/Qwen/Qwen2.5-72B-Instruct")
    spec = RunSpec.from_document({"run": document}, tmp_path / "run.yml")
    nodes = [
        {"name": f"node-{number}", "address": address, "gpus": 8}
        for number, address in enumerate(found.addresses)
    ]
    base = {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "line": "3.7", "env": CHECKOUTS}
    fleet = Fleet.from_document({**base, "nodes": nodes}, tmp_path / "fleet.yml")
    (said,) = findings(make_plan(fleet, spec, "agent"))
    assert "64" in said
    assert "32" in said
    preset = plan_of("qwen2.5-72b-agent-8x8", "3.7", "4x8")
    assert len(findings(preset)) == 1


def test_a_line_that_wants_a_checkout_says_so_where_none_is_named() -> None:
    plan = plan_of("qwen2.5-7b-self-cognition", "3.12")
    fleet = plan.fleet.model_copy(update={"env": {}})
    said = findings(make_plan(fleet, plan.spec, "r"))
    assert len(said) == 1
    assert "MEGATRON_LM_PATH" in said[0]
