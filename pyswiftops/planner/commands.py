"""What the stage playbooks ask of Python: commands of a job, bound values, the first failure.

``pyswiftops.filters`` exposes these to Ansible, so that a playbook run by hand and one run
through the SDK use the same renderers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.matrix import check_flags, row
from pyswiftops.planner.hang import suspect
from pyswiftops.planner.parallel import check_parallel
from pyswiftops.specs.run import KEY, RunSpec
from pyswiftops.stages import train
from pyswiftops.stages.command import Command
from pyswiftops.stages.node import NodeFacts, nodes_from_vars, world_size
from pyswiftops.stages.render import context, program, render, verb

# Neutral names of flags that only the tool may set: paths, and where the endpoint listens.
OWNED = (
    "model",
    "mcore_model",
    "mcore_adapter",
    "dataset",
    "to_mcore",
    "to_hf",
    "adapters",
    "checkpoint",
    "output_file",
    "questions",
    "answers",
    "host",
    "port",
    "output",
)
FP8_BLOCK = 128  # weights a side, of transformers' FineGrainedFP8Config
SECONDARY = frozenset({"peer_failed", "peer_silent", "stopped", "join_timeout"})


def check(spec: RunSpec, nodes: Sequence[NodeFacts], model: Mapping[str, Any]) -> list[Finding]:
    """Findings that need no node: flags of ``extra_args``, parallel sizes."""
    line = nodes[0].line
    findings = [
        finding
        for stage, names in spec.extra_args.items()
        for finding in check_flags(line, program(stage, spec, line), names, f"extra_args.{stage}")
    ]
    findings += _check_owned(spec, line) + _check_megatron(spec, nodes)
    findings += _check_blocks(spec, model) + _check_export(spec, nodes[0], model)
    return findings + check_parallel(spec, world_size(nodes), model)


def _check_export(spec: RunSpec, node: NodeFacts, model: Mapping[str, Any]) -> list[Finding]:
    """Findings for GPUs of the first node that the export cannot be cut over."""
    if spec.method.backend != "megatron":
        return []
    if spec.method.tuner == "lora":
        return _check_lora_export(spec, node, model)
    heads, groups = model.get("num_attention_heads"), model.get("num_key_value_heads")
    if spec.export.gpus == "one" or not isinstance(heads, int):
        return []
    groups = groups if isinstance(groups, int) else heads
    if heads % node.ranks == 0 and (groups % node.ranks == 0 or node.ranks % groups == 0):
        return []
    return [
        Finding(
            "a number of GPUs that divides the model's attention heads, for export.gpus: all",
            f"{node.ranks} GPUs on the first node; {heads} heads, {groups} of keys and values",
            "export.gpus",
            "use one, or name fewer gpus of that node in the fleet file",
        )
    ]


def _check_lora_export(spec: RunSpec, node: NodeFacts, model: Mapping[str, Any]) -> list[Finding]:
    """LoRA keeps the tensor size of its training; what is left of all GPUs takes layers."""
    tensor, layers = spec.parallel.tensor, model.get("num_hidden_layers")
    if node.device != "cpu" and node.ranks < tensor:
        return [
            Finding(
                f"{tensor} GPUs on the first node: LoRA is exported at its training's tensor size",
                str(node.ranks),
                "parallel.tensor",
                f"use {node.ranks} or less; pipeline cuts the model over nodes",
            )
        ]
    stages = node.ranks // tensor
    if spec.export.gpus == "one" or not isinstance(layers, int) or layers % stages == 0:
        return []
    return [
        Finding(
            "GPUs on the first node that divide the model's layers, for export.gpus: all",
            f"{node.ranks} / tensor size {tensor} = {stages} for {layers} layers",
            "export.gpus",
            "use one, or name fewer gpus of that node in the fleet file",
        )
    ]


def _check_blocks(spec: RunSpec, model: Mapping[str, Any]) -> list[Finding]:
    """Findings for a model that FP8 would leave as it is: transformers skips such matrices."""
    asked, hidden = spec.export.quantize, model.get("hidden_size")
    if asked is None or asked.method != "fp8" or not isinstance(hidden, int):
        return []
    if hidden % FP8_BLOCK == 0:
        return []
    return [
        Finding(
            f"a hidden size that blocks of {FP8_BLOCK} divide, as fp8 scales them",
            str(hidden),
            "export.quantize.method",
            "use bnb, awq or gptq",
        )
    ]


def _check_owned(spec: RunSpec, line: str) -> list[Finding]:
    """Findings for flags that tell where things are, which later stages count on."""
    findings = []
    for stage, names in spec.extra_args.items():
        table = verb(stage, spec, line)
        owned = {table.flags[name] for name in OWNED if name in table.flags} | set(table.always)
        findings += [
            Finding(
                "flags that the tool does not set itself",
                name,
                f"extra_args.{stage}.{name}",
                "leave it out; docs/reference/run.md names the keys of the run file",
            )
            for name in sorted(owned & set(names))
        ]
    return findings


def _check_megatron(spec: RunSpec, nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Findings for checkouts that a line needs, and would clone at start-up without a word."""
    if spec.method.backend == "swift":
        return []
    return [
        Finding(
            f"{name}, as ms-swift {nodes[0].line} trains with a checkout",
            "no such variable",
            f"env of the fleet file, node {node.name}",
            "pyswiftops.fleet.install makes the checkout; or name one that is there",
        )
        for node in nodes
        for name in row(node.line).megatron_source.environment
        if name not in node.env
    ][:2]


def run_spec(run: Mapping[str, Any]) -> RunSpec:
    """The run that a playbook was given as the variable ``run``."""
    return RunSpec.from_document({KEY: plain(run)}, Path.cwd() / "extra vars")


def stage_commands(
    run: Mapping[str, Any], job: str, run_id: str, variables: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Commands of a job as plain data, by node.

    Args:
        run: The run spec as plain data.
        job: The job's name.
        run_id: The run's id.
        variables: node -> its Ansible variables.

    Raises:
        BadInputError: the spec or the inventory cannot be used.
    """
    spec, nodes = run_spec(run), nodes_from_vars(plain(variables))
    findings = check(spec, nodes, {})
    if findings:
        raise BadInputError(findings)
    return {command.node: command.to_dict() for command in render(job, run_id, spec, nodes)}


def resume_needs(
    run: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What ``args.json`` of the checkpoint that a run goes on from must say."""
    return train.resume_needs(context(run_spec(run), "", nodes_from_vars(plain(variables))))


def job_requests(
    commands: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Bind late values: what the module ``job`` is given, by node.

    Raises:
        UnboundValueError: a value that a command needs is missing.
    """
    bound = plain(values)
    return {
        node: Command.from_dict(plain(command)).bind(bound).to_dict()
        for node, command in commands.items()
    }


def needs(commands: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the late values that these commands hold, sorted."""
    words: list[Any] = []
    for command in commands.values():
        words += [*command["argv"], *command["env"].values()]
    return sorted({word["late"] for word in words if isinstance(word, Mapping)})


def first_failure(results: Mapping[str, Mapping[str, Any]], otherwise: str = "") -> dict[str, str]:
    """Which node failed first, and why: its own failure, not one it shares.

    Args:
        results: node -> what the module ``job`` returned last.
        otherwise: What failed where no node's job did: a task beside it.

    Returns:
        ``node`` and ``detail``: the reason, the last log lines, the log's path.
    """
    failed = [
        (node, result)
        for node, result in results.items()
        if result.get("failed") or result.get("state") not in (None, "succeeded", "running")
    ]

    def order(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
        reason = item[1].get("reason") or {}
        return reason.get("kind") in SECONDARY, float(item[1].get("ended_at") or 0)

    if not failed:
        return {"node": "", "detail": otherwise or "no node reports a failure"}
    node, result = min(failed, key=order)
    reason = result.get("reason") or {}
    why = reason.get("detail") or result.get("msg") or f"job {result.get('state')}"
    tail = [str(line) for line in result.get("log_tail") or ()]
    reports = hang_reports(results)
    held_up = suspect(reports) if reports else None
    named = [f"held up by {held_up}"] if held_up is not None else []
    lines = [str(why), *named, *tail, f"log on {node}: {result.get('log', 'none')}"]
    return {"node": node, "detail": "\n".join(lines)}


def hang_reports(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Reports of a hung job, by node; empty where it did not hang."""
    return {node: result["hang"] for node, result in results.items() if result.get("hang")}


def plain(data: Any) -> Any:
    """Ansible's tagged types -> JSON's own."""
    return json.loads(json.dumps(_mapping(data)))


def _mapping(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _mapping(value) for key, value in data.items()}
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return [_mapping(item) for item in data]
    return data
