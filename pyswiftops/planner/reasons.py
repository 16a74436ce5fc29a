"""Why a flag or a variable of a planned command has its value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.matrix import row
from pyswiftops.planner.plan import Plan
from pyswiftops.stages.catalog import stage_of
from pyswiftops.stages.command import Command, Word
from pyswiftops.stages.keys import KEYS
from pyswiftops.stages.node import nodes_from_vars
from pyswiftops.stages.render import verb

# Neutral name of a setting (stages/lines/) -> where its value comes from.
SETTINGS = {
    **KEYS,
    "model": "model",
    "dtype": f"{KEYS['dtype']}; float32 on a fleet of device cpu",
    "max_length": f"{KEYS['max_length']}; auto takes what the stage data measured",
    "save_every": f"{KEYS['save_every']}; without it, at the end",
    "weights_only": "resume.mode; without resume, weights are all there is",
    "mcore_model": "the run's own folder on the node: what convert left, or a checkpoint",
    "mcore_adapter": "the run's own folder on the node: a LoRA checkpoint",
    "output": "the run's own folder on the node (paths.py)",
    "to_mcore": "the job: HF to Megatron's format",
    "to_hf": "the job: Megatron's format to HF",
    "merge_lora": "method.tuner lora: the export merges the adapters into the base",
    "overwrite": "the job: a repeated stage writes over what it left",
    "backend": "the release line's name for plain transformers",
    "questions": "smoke.questions, written to a file on the node",
    "answers": "the run's own folder on the node (paths.py)",
    "max_tokens": "smoke.max_tokens",
    "temperature": "greedy decoding, so that answers can be compared",
    "stream": "answers are read from a file, whole",
    "host": "deploy.host",
    "port": "deploy.port; auto leases a free port on the node",
    "served_name": "deploy.served_name; without it, the run's name",
    "adapters": "export.form adapters: they are served beside the base",
    "test_precision": "export.test_precision",
    "quant_method": "export.quantize.method",
    "quant_bits": "export.quantize.bits",
    "quant_samples": "export.quantize.samples",
    "quant_batch_size": "export.quantize.batch_size",
    "quant_group_size": "export.quantize.group_size",
    "push": "export.push",
    "hub": "export.push.hub",
    "hub_model": "export.push.model",
    "hub_private": "export.push.private",
    "hub_message": "export.push.message",
    "checkpoint": "the run's own folder on the node: the checkpoint to go on from",
    "eval_datasets": "eval.datasets",
    "eval_backend": "eval.backend",
    "limit": "eval.limit",
    "vllm": "rollout: its vLLM answers while this trains",
    "vllm_mode": "rollout: its vLLM answers while this trains",
    "rollout_host": "the training address of the last node, where rollout serves",
    "rollout_port": "rollout.port",
    "ranks": "export.gpus all: a part of the model on each; of LoRA, parallel.tensor",
    "stages": "export.gpus all, of LoRA: what parallel.tensor leaves of the GPUs",
    "load_hf": "method.bridge: HF weights are loaded without convert",
    "sampler": "the job: answers are drawn",
    "answers_each": "sample.answers",
    "output_file": "the run's own folder on the node (paths.py)",
}
OURS = {"fetch", "data", "export_proof"}
FURTHER = {"export_quantize", "export_push"}  # of the stage export, by verbs of their own
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "gpus of the node; empty hides all GPUs",
    "HF_HOME": "caches are the node's own, so that nodes need no shared disk",
    "MODELSCOPE_CACHE": "caches are the node's own, so that nodes need no shared disk",
    "TMPDIR": "caches are the node's own, so that nodes need no shared disk",
    "PYTHONUNBUFFERED": "the log shows lines as they are printed",
    "TOKENIZERS_PARALLELISM": "the tokenizers library warns, and may hang, after a fork",
    "OMP_NUM_THREADS": "cpu_threads of the fleet: torch would take all cores for each process",
    "MASTER_ADDR": "the training address of the first node",
    "MASTER_PORT": "a port that is proven free on the first node",
    "NNODES": "how many nodes take part in the job",
    "NODE_RANK": "the node's place in the fleet file",
    "NPROC_PER_NODE": "gpus of the node; always set, as upstream does not start torchrun without",
    "GLOO_SOCKET_IFNAME": "training_interface of the fleet; lo on local fleets",
    "NCCL_SOCKET_IFNAME": "training_interface of the fleet, = for it alone; lo on local fleets",
}


@dataclass(frozen=True)
class Reason:
    """Why a word of a command is there.

    Attributes:
        job: The job.
        node: The node.
        name: Flag without dashes, or variable.
        value: Its value; late values print in braces.
        why: Where the value comes from.
    """

    job: str
    node: str
    name: str
    value: str
    why: str


# Flags that every command of a verb has.
ALWAYS = {
    "check_model": "keeps upstream from asking the model hub about local paths",
    "check_model_is_latest": "keeps upstream from asking the model hub about local paths",
    "fp16": "real float32: the type alone turns on float16",
    "bf16": "real float32: the type alone turns on float16",
}


def _flag(plan: Plan, command: Command, name: str) -> str:
    """Where a flag comes from; what wins in the renderer is asked first."""
    stage = stage_of(command.job)
    key = "convert" if command.job == "roundtrip_export" else stage
    key = "infer" if command.job == "roundtrip_infer" else key
    key = command.job if command.job in FURTHER else key
    if name in dict(plan.spec.extra_args).get(key, {}):  # type: ignore[call-overload]
        return f"extra_args.{key} of the run file"
    if command.job in OURS:
        return "the helper's own option"
    table = verb(key, plan.spec, plan.fleet.line)
    for fixed, what in (
        (table.always, f"every such command of ms-swift {plan.fleet.line}"),
        (table.cpu or {}, "what it needs on the CPU backend"),
        (table.usual, f"every such command of ms-swift {plan.fleet.line}"),
    ):
        if name in fixed:
            return ALWAYS.get(name, what)
    together = {
        flag: setting
        for setting, values in table.instead.items()
        for flags in values.values()
        for flag in flags
    }
    for setting, flag in (*table.flags.items(), *((one, two) for two, one in together.items())):
        if flag == name and setting in SETTINGS:
            return SETTINGS[setting]
    return ""


def _variable(plan: Plan, name: str, job: str) -> str:
    if job == "train" and name in plan.spec.training.env:
        return "training.env of the run file"
    if name in plan.fleet.env:
        return "env of the fleet file"
    if name in row(plan.fleet.line).env:
        return f"env of the matrix row {plan.fleet.line}"
    return ENVIRONMENT.get(name, "")


def _flags(command: Command) -> Iterator[tuple[str, str]]:
    words: list[Word] = list(command.argv)
    for place, word in enumerate(words):
        if not (isinstance(word, str) and word.startswith("--")):
            continue
        values = []
        for value in words[place + 1 :]:
            if isinstance(value, str) and value.startswith("--"):
                break
            values.append(str(value))
        yield word.removeprefix("--"), " ".join(values)


def reasons(plan: Plan) -> Iterator[Reason]:
    """A reason for each flag and each variable of each command."""
    for job, commands in plan.jobs.items():
        for command in commands:
            for name, value in _flags(command):
                yield Reason(job, command.node, name, value, _flag(plan, command, name))
            for name, word in command.env.items():
                why = _variable(plan, name, job)
                yield Reason(job, command.node, name, str(word), why)


def why(plan: Plan, name: str) -> list[Reason]:
    """Reasons of one flag or variable.

    Args:
        plan: The plan that has it.
        name: A flag with or without dashes, or a variable.

    Raises:
        BadInputError: no command of the plan has it.
    """
    wanted = name.lstrip("-")
    found = [reason for reason in reasons(plan) if reason.name == wanted]
    if not found:
        nodes = nodes_from_vars(plan.fleet.host_vars())
        raise BadInputError(
            Finding(
                "a flag or a variable of a planned command",
                repr(name),
                f"plan of {len(nodes)} nodes",
                "see swiftops plan for all of them",
            )
        )
    return found
