"""``swiftops demo``: what ``make demo`` runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyswiftops.client import Client
from pyswiftops.content import collection
from pyswiftops.demo import dataset, model
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.events import Event, EventKind
from pyswiftops.results import RunResult
from pyswiftops.specs.fleet import Fleet, Node
from pyswiftops.specs.run import KEY, RunSpec

RUN_ID = "self-cognition"
ITERATIONS = 14
NODES = (1, 2, 3, 5, 6)
LEARNING_RATES = {"lora": 1e-3, "full": 1e-4}


@dataclass(frozen=True)
class DemoOptions:
    """What the demo is given.

    Attributes:
        name: The name that the model learns.
        author: Who it says made it.
        folder: Where model, rows, nodes and run lie.
        device: ``cpu`` or ``gpu``, one GPU a node.
        tuner: ``lora`` or ``full``.
        nodes: How many logical nodes; each takes a share of the layers (pipeline parallel).
        keep: Leave the server running.
    """

    name: str
    author: str
    folder: Path
    device: str = "cpu"
    tuner: str = "lora"
    nodes: int = 2
    keep: bool = False


@dataclass(frozen=True)
class DemoFiles:
    """Where the demo keeps what."""

    folder: Path

    @property
    def shared(self) -> Path:
        """What every node sees: model and rows."""
        return self.folder / "shared"

    @property
    def model(self) -> Path:
        """The base model as an HF checkpoint."""
        return self.shared / "SmolLM2-135M-Instruct"

    @property
    def rows(self) -> Path:
        """The training rows."""
        return self.shared / "self-cognition.jsonl"

    @property
    def nodes(self) -> Path:
        """The nodes' own roots."""
        return self.folder / "nodes"

    @property
    def runs(self) -> Path:
        """The controller's runs."""
        return self.folder / "runs"

    @property
    def fleet(self) -> Path:
        """The fleet file, to use with ``swiftops`` and ``ansible-playbook``."""
        return self.folder / "fleet.yml"

    @property
    def run(self) -> Path:
        """The run file, likewise."""
        return self.folder / "run.yml"


def demo_fleet(files: DemoFiles, options: DemoOptions) -> Fleet:
    """The embedded fleet of ``inventory/local``, with its roots in the demo's folder."""
    embedded = Fleet.load(collection() / "inventory" / "local" / "fleet.yml")
    gpus = [[rank] if options.device == "gpu" else None for rank in range(options.nodes)]
    nodes = [Node(name=f"node-{rank + 1}", gpus=numbers) for rank, numbers in enumerate(gpus)]
    return embedded.model_copy(
        update={
            "device": options.device,
            "nodes": nodes,
            "root": str(files.nodes),
            "shared_paths": [str(files.shared)],
        }
    )


def demo_spec(files: DemoFiles, options: DemoOptions) -> dict[str, Any]:
    """The demo's run file as plain data."""
    questions = [{"ask": "Who are you?", "expect": [options.name, options.author]}]
    questions += [{"ask": ask, "expect": [word]} for ask, word in dataset.STILL_KNOWN]
    # flash-attn, upstream's default, need not be installed: Transformer Engine takes what is there
    on_gpu = {"extra_args": {"train": {"attention_backend": "auto"}}}
    return {
        KEY: {
            "name": RUN_ID,
            "model": {
                "path": str(files.model),
                "model_type": model.MODEL_TYPE,
                "template": model.TEMPLATE,
            },
            "data": {"train": [str(files.rows)]},
            "method": {"tuner": options.tuner, "lora": {"rank": 8, "alpha": 32, "dropout": 0.0}},
            "training": {
                "iterations": ITERATIONS,
                "micro_batch_size": 4,
                "global_batch_size": 8,
                "learning_rate": LEARNING_RATES[options.tuner],
            },
            "parallel": {"pipeline": options.nodes},
            "output": {"save_safetensors": False, "save_optimizer": True},
            "deploy": {"served_name": "smollm2-self-cognition"},
            "smoke": {"questions": questions, "max_tokens": 32},
            **(on_gpu if options.device == "gpu" else {}),
        }
    }


def prepare(options: DemoOptions) -> tuple[DemoFiles, Fleet, RunSpec]:
    """Write model, rows, fleet file and run file.

    Raises:
        BadInputError: an option cannot be used.
    """
    for key, value in (("name", options.name), ("author", options.author)):
        if not value.strip() or "\n" in value:
            raise BadInputError(
                Finding(f"{key}: one line of text", repr(value), f"--{key}", f"give a {key}")
            )
    choices = (
        ("device", options.device, ("cpu", "gpu")),
        ("tuner", options.tuner, ("lora", "full")),
    )
    for key, value, known in choices:
        if value not in known:
            expected = f"{key}: {' or '.join(known)}"
            raise BadInputError(
                Finding(expected, repr(value), f"--{key}", f"use --{key} {known[0]}")
            )
    if options.nodes not in NODES:
        raise BadInputError(
            Finding(
                f"nodes: one of {', '.join(map(str, NODES))}, which divide the model's 30 layers",
                str(options.nodes),
                "--nodes",
                "use --nodes 2",
            )
        )
    files = DemoFiles(options.folder.resolve())
    try:
        files.shared.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BadInputError(
            Finding("a folder that can be written", str(problem), "--folder", "name another")
        ) from None
    model.write_checkpoint(files.model)
    dataset.write_rows(files.rows, options.name, options.author)
    fleet = demo_fleet(files, options)
    files.fleet.write_text(fleet.to_yaml(), encoding="utf-8")
    document = demo_spec(files, options)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    files.run.write_text(text, encoding="utf-8")
    return files, fleet, RunSpec.load(files.run)


def clear(files: DemoFiles) -> None:
    """Stop and remove an earlier demo's run; model and rows stay."""
    client = Client(files.runs)
    if (files.runs / RUN_ID / "run.json").exists():
        client.stop(RUN_ID)
    for folder in (files.runs / RUN_ID, *files.nodes.glob(f"*/runs/{RUN_ID}")):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class DemoResult:
    """What the demo shows at the end.

    Attributes:
        files: Where everything lies.
        run: The run.
        before: The base model's answers.
        after: The trained and served model's answers.
        url: Base URL of the endpoint, or "" once it is stopped.
    """

    files: DemoFiles
    run: RunResult
    before: list[dict[str, str]]
    after: list[dict[str, str]]
    url: str


def run_demo(options: DemoOptions, on_event: Callable[[Event], None]) -> DemoResult:
    """Prepare, plan, apply; stop the server at the end unless ``options.keep``.

    Args:
        options: What to learn, and where.
        on_event: Called for every event.

    Raises:
        BadInputError: an option cannot be used.
        StageFailedError: a stage failed, or an answer is not as expected.
    """
    begin = time.monotonic()
    on_event(
        Event(
            EventKind.STAGE_STARTED, "fetch", 0.0, data={"what": f"{model.FILE} -> HF checkpoint"}
        )
    )
    files, fleet, spec = prepare(options)
    clear(files)
    took = time.monotonic() - begin
    on_event(Event(EventKind.STAGE_FINISHED, "fetch", took, data={"seconds": took}))
    client = Client(files.runs)
    result = client.apply(client.plan(fleet, spec), on_event=on_event)
    argv = next(iter(result.stages["deploy"]["result"]["argv"].values()))
    url = f"http://{spec.deploy.host}:{argv[argv.index('--port') + 1]}/v1"
    if not options.keep:
        client.stop(RUN_ID, jobs=["deploy"])
    return DemoResult(
        files=files,
        run=result,
        before=result.stages["infer"]["result"]["answers"],
        after=result.stages["smoke"]["result"]["answers"],
        url=url if options.keep else "",
    )
