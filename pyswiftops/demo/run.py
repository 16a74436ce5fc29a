"""``swiftops demo``: what ``make demo`` runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyswiftops import provision
from pyswiftops.client import Client
from pyswiftops.content import collection
from pyswiftops.demo import dataset, model
from pyswiftops.errors import BadInputError, Finding, FleetError, StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.results import RunResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.node import Node
from pyswiftops.specs.reading import read_yaml
from pyswiftops.specs.run import KEY, RunSpec
from pyswiftops.wheelhouse import make_wheelhouse

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
        nodes: How many nodes; each takes a share of the layers (pipeline parallel).
        keep: Leave the server, and the containers, running.
        runtime: ``local``, or ``container``: made for the demo, and taken down after it.
        wheelhouse: What the containers' packages come from; made in ``folder`` if not given.
    """

    name: str
    author: str
    folder: Path
    device: str = "cpu"
    tuner: str = "lora"
    nodes: int = 2
    keep: bool = False
    runtime: str = "local"
    wheelhouse: Path | None = None

    @property
    def packages(self) -> Path:
        """The wheelhouse, given or to be made."""
        return (self.wheelhouse or self.folder / "wheelhouse").resolve()


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
    def state(self) -> Path:
        """The key of a fleet that is made for the demo, and its nodes' host keys."""
        return self.folder / "state"

    @property
    def fleet(self) -> Path:
        """The fleet file, to use with ``swiftops`` and ``ansible-playbook``."""
        return self.folder / "fleet.yml"

    @property
    def run(self) -> Path:
        """The run file, likewise."""
        return self.folder / "run.yml"


def demo_fleet(files: DemoFiles, options: DemoOptions) -> Fleet:
    """The fleet of ``inventory/local`` or ``inventory/container``, at home in the demo's folder."""
    if options.runtime == "container":
        return _container_fleet(files, options)
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


def _container_fleet(files: DemoFiles, options: DemoOptions) -> Fleet:
    document = read_yaml(
        collection() / "inventory" / "container" / "fleet.yml", FleetError, "fleet file"
    )
    document["state"] = str(files.state)
    document["device"] = options.device
    document["container"]["image"]["build"]["wheelhouse"] = str(options.packages)
    document["nodes"] = [
        {"name": f"node-{rank + 1}", **({"gpus": [rank]} if options.device == "gpu" else {})}
        for rank in range(options.nodes)
    ]
    return Fleet.from_document(document, files.fleet)


def demo_spec(files: DemoFiles, options: DemoOptions) -> dict[str, Any]:
    """The demo's run file as plain data."""
    questions = [{"ask": "Who are you?", "expect": [options.name, options.author]}]
    questions += [{"ask": ask, "expect": [word]} for ask, word in dataset.STILL_KNOWN]
    # flash-attn, upstream's default, need not be installed: Transformer Engine takes what is there
    there = {"at": "controller"} if options.runtime == "container" else {}
    on_gpu = {"extra_args": {"train": {"attention_backend": "auto"}}}
    return {
        KEY: {
            "name": RUN_ID,
            "model": {
                "path": str(files.model),
                **there,
                "model_type": model.MODEL_TYPE,
                "template": model.TEMPLATE,
            },
            "data": {"train": [{"path": str(files.rows), **there} if there else str(files.rows)]},
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
        ("runtime", options.runtime, ("local", "container")),
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
        url: Base URL of the endpoint on the first node, or "" once it is stopped.
        root: The first node's own directory, or "" once it is taken down.
        made: Whether the nodes are containers that were made for the demo.
    """

    files: DemoFiles
    run: RunResult
    before: list[dict[str, str]]
    after: list[dict[str, str]]
    url: str
    root: str
    made: bool


def run_demo(
    options: DemoOptions,
    on_event: Callable[[Event], None],
    on_output: Callable[[str], None] | None = None,
) -> DemoResult:
    """Prepare, plan, apply; stop and take down at the end unless ``options.keep``.

    Args:
        options: What to learn, and where.
        on_event: Called for every event.
        on_output: Called with what ansible-playbook itself prints.

    Raises:
        BadInputError: an option cannot be used.
        ProvisionError: the containers could not be made.
        StageFailedError: a stage failed, or an answer is not as expected.
    """
    with _told("fetch", f"{model.FILE} -> HF checkpoint", on_event):
        files, fleet, spec = prepare(options)
        if options.runtime == "local":
            clear(files)
    client = Client(files.runs, on_output)
    if options.runtime == "local":
        return _train_and_ask(options, client, (files, fleet, spec), on_event)
    with _told("wheelhouse", f"packages -> {options.packages}", on_event):
        make_wheelhouse(options.packages, line=fleet.line)
    earlier = (files.runs / RUN_ID / "run.json").exists()
    if earlier:
        with suppress(StageFailedError):  # its nodes may be gone
            client.stop(RUN_ID)
    with _told("up", "this machine -> nodes", on_event):
        provision.up(fleet, on_output=on_output)
    if earlier:
        client.remove(RUN_ID)
    result = _train_and_ask(options, client, (files, fleet, spec), on_event)
    if not options.keep:  # what failed stays, to be looked at
        with _told("down", "nodes -> nothing", on_event):
            provision.down(fleet, data=True, on_output=on_output)
    return result


@contextmanager
def _told(stage: str, what: str, on_event: Callable[[Event], None]) -> Iterator[None]:
    """Tell of a step that is no stage of a run as if it were one."""
    begin = time.monotonic()
    on_event(Event(EventKind.STAGE_STARTED, stage, 0.0, data={"what": what}))
    yield
    took = time.monotonic() - begin
    on_event(Event(EventKind.STAGE_FINISHED, stage, took, data={"seconds": took}))


def _train_and_ask(
    options: DemoOptions,
    client: Client,
    prepared: tuple[DemoFiles, Fleet, RunSpec],
    on_event: Callable[[Event], None],
) -> DemoResult:
    files, fleet, spec = prepared
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
        root=fleet.node_root(fleet.members[0]) if options.keep or not fleet.hosts else "",
        made=bool(fleet.hosts),
    )
