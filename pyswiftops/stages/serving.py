"""data, infer and deploy: jobs of the first node around a HF checkpoint."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from pyswiftops.stages.command import Command, Late, flag_words
from pyswiftops.stages.context import Context

PORT = Late("lease.deploy_port")


def data(context: Context) -> list[Command]:
    """Token lengths of the training rows, with the template that training uses."""
    node, spec = context.first, context.spec
    output = context.paths(node).lengths
    flags = {
        "model": context.model(node),
        "model_type": spec.model.model_type,
        "template": spec.model.template,
        "system": spec.data.system,
        "dataset": context.rows(node),
        "seed": spec.training.seed if any(item.rows for item in spec.data.train) else None,
        "output": output,
    }
    prompts = () if spec.method.needs_answers else ("--prompts",)
    argv = ("python", "-m", "pyswiftops.data.lengths", *flag_words(flags), *prompts)
    folders = (str(PurePosixPath(output).parent),)
    env = {**context.environment(node, ranks=0), **context.threads(node)}
    return [context.command("data", node, argv, env, make_directories=folders)]


def _questions(context: Context) -> str:
    rows = (
        {"messages": [{"role": "user", "content": question.ask}]}
        for question in context.spec.smoke.questions
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _infer(context: Context, job: str, model: str) -> list[Command]:
    node, spec = context.first, context.spec
    paths = context.paths(node)
    settings = {
        "model": model,
        **context.model_kind,
        "backend": "transformers",
        "questions": paths.questions(job),
        "answers": paths.answers(job),
        "max_tokens": spec.smoke.max_tokens,
        "temperature": 0,
        "stream": False,
    }
    env = {**context.environment(node, ranks=1), **context.threads(node)}
    files = {paths.questions(job): _questions(context)}
    return [context.command(job, node, context.words("infer", settings), env, files=files)]


def infer(context: Context) -> list[Command]:
    """The base model's answers to the smoke questions, greedily decoded."""
    return _infer(context, "infer", context.model(context.first))


def roundtrip_infer(context: Context) -> list[Command]:
    """The same questions to the model that went to mcore and back, where it went there."""
    if context.spec.method.backend == "swift" or context.spec.method.bridge:
        return []
    return _infer(context, "roundtrip_infer", context.paths(context.first).roundtrip)


def trained(context: Context) -> dict[str, Any]:
    """The trained model, as inference takes it: a folder of HF weights, or base and adapters."""
    spec, export = context.spec, context.paths(context.first).export
    plain, lora = spec.method.backend == "swift", spec.method.tuner == "lora"
    if spec.export.form == "adapters":
        adapters = Late("train.checkpoint") if plain else export
        return {"model": context.model(context.first), "adapters": [adapters]}
    return {"model": Late("train.checkpoint") if plain and not lora else export}


def deploy(context: Context) -> list[Command]:
    """``swift deploy`` of the exported model: an OpenAI-compatible endpoint."""
    node, spec = context.first, context.spec
    if spec.export.form == "mcore":
        return []
    settings = {
        **trained(context),
        **context.model_kind,
        "backend": "transformers",
        "served_name": spec.deploy.served_name or spec.name,
        "host": spec.deploy.host,
        "port": PORT if spec.deploy.port == "auto" else spec.deploy.port,
    }
    env = context.environment(node, ranks=1)
    return [context.command("deploy", node, context.words("deploy", settings), env)]


def evaluate(context: Context) -> list[Command]:
    """``swift eval`` of the exported model on benchmarks (EvalScope); nothing if none are asked."""
    node, spec = context.first, context.spec
    if spec.eval is None or spec.export.form == "mcore":
        return []
    settings = {
        **trained(context),
        **context.model_kind,
        "backend": "transformers",
        "eval_datasets": spec.eval.datasets,
        "eval_backend": spec.eval.backend,
        "limit": spec.eval.limit,
        "output": context.paths(node).evaluation,
    }
    env = {**context.environment(node, ranks=1), **context.threads(node)}
    return [context.command("eval", node, context.words("eval", settings), env)]


def sample(context: Context) -> list[Command]:
    """``swift sample``: several answers of the exported model to every row of the data."""
    node, spec = context.first, context.spec
    if spec.sample is None or spec.export.form == "mcore":
        return []
    output = PurePosixPath(context.paths(node).samples)
    settings = {
        **trained(context),
        **context.model_kind,
        "backend": "transformers",
        "sampler": "sample",
        "dataset": context.rows(node),
        "system": spec.data.system,
        "answers_each": spec.sample.answers,
        "max_tokens": spec.sample.max_tokens,
        "temperature": spec.sample.temperature,
        "output": str(output.parent),
        "output_file": output.name,
    }
    env = {**context.environment(node, ranks=1), **context.threads(node)}
    return [context.command("sample", node, context.words("sample", settings), env)]


def rollout(context: Context) -> list[Command]:
    """``swift rollout`` on the last node: vLLM that answers while GRPO or GKD train.

    It has GPUs of its own, which the fleet file does not give to training.
    """
    node, spec = context.last, context.spec
    if spec.rollout is None:
        return []
    settings = {
        "model": context.model(node),
        **context.model_kind,
        "host": node.address,
        "port": spec.rollout.port,
    }
    env = context.environment(node)
    env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, spec.rollout.gpus))
    return [context.command("rollout", node, context.words("rollout", settings), env)]
