"""What of quantising and pushing is refused, and that no token is rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import MatrixError, RunSpecError
from pyswiftops.planner.commands import check
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.node import nodes_from_vars

AT = Path("/nowhere/run.yml")
PUSH = {"hub": "huggingface", "model": "org/name"}


def plan(
    export: dict[str, Any], line: str = "4.6", device: str = "gpu", gpus: int = 2, **more: Any
) -> Plan:
    node = {"name": "node-1", "address": "192.0.2.1", "gpus": gpus}
    fleet = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "host",
        "line": line,
        "device": device,
        "nodes": [node],
    }
    run = {
        "name": "r",
        "model": {"path": "/m", "model_type": "llama"},
        "data": {"train": ["/rows.jsonl"]},
        "method": {"tuner": "full"},
        "training": {"iterations": 1},
        "export": export,
        **more,
    }
    spec = RunSpec.from_document({"run": run}, AT)
    return make_plan(Fleet.from_document(fleet, AT), spec, "r")


@pytest.mark.parametrize(
    ("export", "said"),
    [
        ({"quantize": {"method": "awq", "bits": 8}}, "bits that awq has"),
        ({"quantize": {"method": "fp8", "bits": 8}}, "bits that fp8 has"),
        ({"quantize": {"method": "bnb", "samples": 8}}, "samples with method awq or gptq"),
        ({"quantize": {"method": "gptq", "group_size": 0}}, "group_size"),
        ({"quantize": {"method": "gguf"}}, "method"),
        ({"form": "adapters", "quantize": {"method": "fp8"}}, "export.form hf"),
        ({"form": "mcore", "push": PUSH}, "export.form hf or adapters"),
        ({"push": {**PUSH, "what": "quantized"}}, "export.quantize"),
        ({"push": {**PUSH, "model": "--name"}}, "model"),
        ({"push": {**PUSH, "token": "secret"}}, "token"),
    ],
)
def test_what_cannot_be_is_refused(export: dict[str, Any], said: str) -> None:
    with pytest.raises(RunSpecError, match=said):
        plan(export)


@pytest.mark.parametrize("export", [{"quantize": {"method": "fp8"}}, {"push": PUSH}])
def test_a_line_that_cannot_says_which_can(export: dict[str, Any]) -> None:
    with pytest.raises(MatrixError, match=r"lines that can: 3\.6"):
        plan(export, line="2.6")


@pytest.mark.parametrize(("hidden", "told"), [(576, ["576"]), (4096, [])])
def test_a_model_that_fp8_would_leave_as_it_is_is_refused(hidden: int, told: list[str]) -> None:
    made = plan({"quantize": {"method": "fp8"}})
    nodes = nodes_from_vars(made.fleet.host_vars())
    assert [item.found for item in check(made.spec, nodes, {"hidden_size": hidden})] == told


@pytest.mark.parametrize(
    ("gpus", "heads", "groups", "told"), [("all", 9, 3, 1), ("all", 8, 2, 0), ("one", 9, 3, 0)]
)
def test_heads_that_all_gpus_do_not_divide_are_told_before_the_training(
    gpus: str, heads: int, groups: int, told: int
) -> None:
    made = plan({"gpus": gpus})
    nodes = nodes_from_vars(made.fleet.host_vars())
    model = {"num_attention_heads": heads, "num_key_value_heads": groups}
    found = [item for item in check(made.spec, nodes, model) if item.where == "export.gpus"]
    assert len(found) == told


LORA = {"method": {"tuner": "lora"}}
TENSOR, STAGES = "--tensor_model_parallel_size", "--pipeline_model_parallel_size"


@pytest.mark.parametrize(
    ("parallel", "gpus", "line", "cut"),
    [
        ({"tensor": 2}, "one", "4.6", {TENSOR: "2"}),
        ({"tensor": 2}, "all", "4.6", {TENSOR: "2", STAGES: "2"}),
        ({"pipeline": 2}, "all", "3.12", {TENSOR: "1", STAGES: "4"}),
        ({"pipeline": 2}, "one", "4.6", {}),
        ({"tensor": 2}, "one", "3.9", {}),  # one process, which has no choice
    ],
)
def test_lora_is_exported_at_the_tensor_size_of_its_training(
    parallel: dict[str, int], gpus: str, line: str, cut: dict[str, str]
) -> None:
    """At another one its gate and up are read in another order, and merged into wrong rows."""
    (export,) = plan({"gpus": gpus}, line, gpus=4, parallel=parallel, **LORA).jobs["export"]
    words = [str(word) for word in export.argv]
    found = {flag: words[words.index(flag) + 1] for flag in (TENSOR, STAGES) if flag in words}
    assert found == cut
    ranks = int(cut.get(TENSOR, "1")) * int(cut.get(STAGES, "1"))
    assert export.env["NPROC_PER_NODE"] == str(ranks)


@pytest.mark.parametrize(
    ("tensor", "layers", "gpus", "told"),
    [
        (2, 4, "one", ""),
        (8, 4, "one", "8 GPUs on the first node"),
        (1, 30, "all", "divide the model's layers"),
        (2, 30, "all", ""),
    ],
)
def test_gpus_that_cannot_export_lora_are_told_before_the_training(
    tensor: int, layers: int, gpus: str, told: str
) -> None:
    made = plan({"gpus": gpus}, gpus=4, parallel={"tensor": tensor}, **LORA)
    nodes = nodes_from_vars(made.fleet.host_vars())
    found = "\n".join(map(str, check(made.spec, nodes, {"num_hidden_layers": layers})))
    exported = [line for line in found.splitlines() if "on the first node" in line]
    assert (told in found) if told else not exported


def test_quantising_needs_gpus() -> None:
    with pytest.raises(MatrixError, match="expected: GPUs"):
        plan({"quantize": {"method": "fp8"}}, device="cpu")


def test_calibration_takes_the_trainings_rows_and_no_token_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = plan({"quantize": {"method": "gptq"}, "push": PUSH})
    (quantize,), (push,) = found.jobs["export_quantize"], found.jobs["export_push"]
    assert quantize.argv[quantize.argv.index("--dataset") + 1] == "/rows.jsonl"
    assert push.argv[push.argv.index("--use_hf") + 1] == "true"
    assert "HF_HUB_OFFLINE" not in push.env
    assert "hf_secret" not in str(found.to_dict())
    assert "token" not in " ".join(map(str, push.argv))
    (deploy,) = found.jobs["deploy"]
    assert str(deploy.argv[deploy.argv.index("--model") + 1]).endswith("/export")
