"""data, infer and deploy: jobs of the first node around a HF checkpoint."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from pyswiftops.stages.command import Command, Late, flag_words
from pyswiftops.stages.context import Context, named

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
    argv = ("python", "-m", "pyswiftops.data.lengths", *flag_words(flags))
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
        "model_type": spec.model.model_type,
        "template": spec.model.template,
        "dtype": context.dtype,
        "backend": context.line.infer_backend,
        "questions": paths.questions(job),
        "answers": paths.answers(job),
        "max_tokens": spec.smoke.max_tokens,
        "temperature": 0,
        "stream": False,
    }
    flags = {**named(context.line.infer, settings), **context.extra_args("infer")}
    env = {**context.environment(node, ranks=1), **context.threads(node)}
    files = {paths.questions(job): _questions(context)}
    return [context.command(job, node, context.swift("infer", flags), env, files=files)]


def infer(context: Context) -> list[Command]:
    """The base model's answers to the smoke questions, greedily decoded."""
    return _infer(context, "infer", context.model(context.first))


def roundtrip_infer(context: Context) -> list[Command]:
    """The same questions to the model that went to mcore and back."""
    return _infer(context, "roundtrip_infer", context.paths(context.first).roundtrip)


def deploy(context: Context) -> list[Command]:
    """``swift deploy`` of the exported model: an OpenAI-compatible endpoint."""
    node, spec = context.first, context.spec
    settings = {
        "model": context.paths(node).export,
        "model_type": spec.model.model_type,
        "template": spec.model.template,
        "dtype": context.dtype,
        "backend": context.line.infer_backend,
        "served_name": spec.deploy.served_name or spec.name,
        "host": spec.deploy.host,
        "port": PORT if spec.deploy.port == "auto" else spec.deploy.port,
    }
    flags = {**named(context.line.infer, settings), **context.extra_args("deploy")}
    env = context.environment(node, ranks=1)
    return [context.command("deploy", node, context.swift("deploy", flags), env)]
