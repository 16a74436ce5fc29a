"""Filters of the stage playbooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pyswiftops import forecast
from pyswiftops.paths import NodePaths, check_run_id
from pyswiftops.planner import commands, fetching
from pyswiftops.specs.run import Resume
from pyswiftops.stages.node import NodeFacts


def _paths(root: str, run_id: str) -> NodePaths:
    return NodePaths(str(root), check_run_id(str(run_id)))


def run_spec(run: Mapping[str, Any]) -> dict[str, Any]:
    """The run as given with ``-e @run.yml``, validated, with defaults and absolute paths."""
    return commands.run_spec(run).model_dump(mode="json")


def run_paths(root: str, run_id: str) -> dict[str, str]:
    """The run's files on a node, by name."""
    paths = _paths(root, run_id)
    names = [field.name for field in dataclasses.fields(paths)]
    properties = [name for name, value in vars(NodePaths).items() if isinstance(value, property)]
    return {name: getattr(paths, name) for name in [*names, *properties]}


def job_directory(root: str, run_id: str, job: str) -> str:
    """A job's folder on a node."""
    return _paths(root, run_id).job(str(job))


def answers_path(root: str, run_id: str, job: str) -> str:
    """Where an infer job's answers lie on a node."""
    return _paths(root, run_id).answers(str(job))


def leases_path(root: str, run_id: str, job: str) -> str:
    """Where a job's leased ports are kept on a node."""
    return _paths(root, run_id).leases(str(job))


def flag_value(argv: list[str], flag: str) -> str:
    """The word after ``--flag`` in a recorded argv."""
    return argv[list(argv).index(f"--{flag}") + 1]


def job_peers(requests: Mapping[str, Any], addresses: list[str], port: int) -> list[dict[str, Any]]:
    """Nodes whose jobs share their fate, in rank order; empty where a job stands alone."""
    if len(addresses) == 1 or not any(request["fate"] for request in requests.values()):
        return []
    return [
        {"node": node, "host": address, "port": int(port)}
        for node, address in zip(requests, addresses, strict=True)
    ]


def pull_source(variables: Mapping[str, Any], folder: str, run_id: str) -> dict[str, Any]:
    """Where another node finds this node's copy of a folder."""
    path = run_paths(variables["swiftops_root"], run_id)[folder]
    return fetching.pull_from(variables, path)


def pick(variables: Mapping[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """Variables of some hosts, only those that the renderers read."""
    return {
        name: {key: value for key, value in variables[name].items() if key.startswith("swiftops_")}
        for name in names
    }


def resume_source(root: str, source: str) -> dict[str, str | None]:
    """Where a node may hold the checkpoint to go on from: ``folder``, and ``checkpoint`` in it."""
    resume = Resume.model_validate({"from": str(source)})
    folder = resume.source if resume.run is None else NodePaths(str(root), resume.run).train
    return {"folder": folder, "checkpoint": resume.checkpoint}


def export_memory(
    run: Mapping[str, Any],
    variables: Mapping[str, Any],
    room: Mapping[str, Any],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Whether the export fits into a node: ``ok`` and ``detail``.

    Args:
        run: The run.
        variables: The node's.
        room: What the module ``room`` told, with the folder ``model``.
        config: The model's ``config.json``.
    """
    spec, node = commands.run_spec(run), NodeFacts.from_vars("node", commands.plain(variables))
    files = room["folders"]["model"]["entries"]
    stored = sum(size for name, size in files.items() if name.endswith((".safetensors", ".bin")))
    text = config.get("text_config") or {}
    kept = config.get("torch_dtype") or config.get("dtype") or text.get("dtype") or "bfloat16"
    dtype = "float32" if node.device == "cpu" else spec.model.torch_dtype
    found = forecast.export_memory(
        forecast.recast(stored, str(kept), dtype),
        int(room["memory"]),
        every_gpu=spec.export.gpus == "all",
        test_precision=spec.export.test_precision,
    )
    return dataclasses.asdict(found)


FILTERS: dict[str, Callable[..., Any]] = {
    "answers_path": answers_path,
    "export_memory": export_memory,
    "first_failure": commands.first_failure,
    "flag_value": flag_value,
    "job_directory": job_directory,
    "job_peers": job_peers,
    "job_requests": commands.job_requests,
    "leases_path": leases_path,
    "needs": commands.needs,
    "pick": pick,
    "pull_source": pull_source,
    "resume_needs": commands.resume_needs,
    "resume_source": resume_source,
    "run_paths": run_paths,
    "run_spec": run_spec,
    "stage_commands": commands.stage_commands,
}
