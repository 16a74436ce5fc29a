"""Commands to begin with: init and schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pyswiftops.cli import options as opt
from pyswiftops.cli import show
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.specs.schema import fleet_schema, run_schema

SCHEMAS = {"fleet": fleet_schema, "run": run_schema}


def _quoted(value: Any) -> str:
    """A value as YAML that is one line and no other type: JSON."""
    return json.dumps(value, ensure_ascii=False)


def fleet_text(
    *,
    runtime: str,
    device: str,
    addresses: list[str],
    nodes: int,
    gpus: int,
    root: str,
    line: str = "4.6",
) -> str:
    """A fleet file with comments.

    Args:
        runtime: local, host or container.
        device: gpu or cpu.
        addresses: One a node, for host and container.
        nodes: How many, for local.
        gpus: GPUs of each node, on device gpu.
        root: Parent of the nodes' own directories.
        line: The release line.
    """
    lines = [
        "plugin: pyswiftops.fleet.fleet # always the first line: Ansible reads this file too",
        f"runtime: {runtime} # local: folders of this machine; host: machines reached by SSH",
        f"device: {device} # cpu hides GPUs",
        f"root: {_quoted(root)} # parent of the nodes' own directories",
        f'line: "{line}" # the ms-swift release line that the nodes have',
    ]
    if runtime != "local":
        lines += [
            'python: "/opt/swift/bin/python" # the Python that ms-swift is installed in',
            "ssh:",
            "  user: root",
            "  # private_key: ~/.ssh/id_ed25519",
            "  # proxy_jump: user@bastion",
            "# training_interface: eth0 # what NCCL and Gloo use; default: their own choice",
        ]
    lines.append("nodes: # in rank order: the first is rank 0")
    count = nodes if runtime == "local" else len(addresses)
    for number in range(count):
        parts = [f"name: node-{number + 1}"]
        if runtime != "local":
            parts.append(f"address: {_quoted(addresses[number])}")
        if device == "gpu":
            first = number * gpus
            mine = list(range(first, first + gpus)) if runtime == "local" else gpus
            parts.append(f"gpus: {mine}")
        lines.append(f"  - {{{', '.join(parts)}}}")
    return "\n".join(lines) + "\n"


def run_text(name: str, model: str, datasets: list[str], tuner: str, ranks: int) -> str:
    """A run file with comments.

    Args:
        name: The run's name.
        model: Path of an HF checkpoint, or a hub id.
        datasets: Paths of JSON lines files.
        tuner: lora or full.
        ranks: Training ranks of the fleet.
    """
    is_path = model.startswith(("/", ".", "~")) or Path(model).exists()
    key = "path" if is_path else "id"
    rate = "1.0e-4" if tuner == "lora" else "1.0e-5"
    return f"""\
run: # one key, so that ansible-playbook takes this file with -e @run.yml
  name: {_quoted(name)} # also the run's id
  model:
    {key}: {_quoted(model)} # path: a folder with config.json; id: owner/name of a hub
    # model_type: qwen3 # where ms-swift cannot tell it from config.json
    # template: qwen3
  data:
    train: {_quoted(datasets)} # JSON lines with 'messages'
    max_length: auto # tokens; measured with ms-swift's own template
  method:
    tuner: {tuner} # lora or full
  training:
    epochs: 1 # or iterations: N
    micro_batch_size: 1 # rows a rank takes at once
    global_batch_size: {16 * ranks} # rows an optimizer step takes
    learning_rate: {rate}
    # save_every: 200 # steps; default: at the end
  parallel: # tensor x pipeline x context must divide the fleet's {ranks} ranks
    tensor: 1
    pipeline: 1
  smoke:
    questions: # asked of the base, the converted and the served model
      - {{ask: "What is the capital of France?", expect: [Paris]}}
"""


def _seen_from(folder: Path, path: str) -> str:
    """A path of this machine that was given from here, as files in ``folder`` must name it."""
    here = Path(path)
    if here.is_absolute() or not here.exists() or folder.resolve() == Path.cwd():
        return path
    return str(here.resolve())


def _choice(key: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise BadInputError(
            Finding(f"{key}: {' or '.join(known)}", repr(value), f"--{key}", f"use {known[0]}")
        )
    return value


def _ask(question: str, value: str | None, default: str, *, yes: bool) -> str:
    """What was given, or asked for where somebody can be asked, or the default."""
    if value is not None:
        return value
    if yes or not show.out.is_terminal:
        return default
    answer: str = typer.prompt(question, default=default)
    return answer


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write fleet.yml and run.yml.")] = Path(),
    *,
    runtime: Annotated[str | None, typer.Option(help="local, host or container.")] = None,
    device: Annotated[str | None, typer.Option(help="gpu or cpu.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="How many local nodes.")] = 2,
    address: Annotated[
        list[str] | None, typer.Option(help="A node's address; repeatable, in rank order.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of each node.")] = 1,
    root: Annotated[str | None, typer.Option(help="Parent of the nodes' directories.")] = None,
    model: Annotated[str | None, typer.Option(help="Path or hub id of the base model.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Path of rows; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
    tuner: Annotated[str, typer.Option(help="lora or full.")] = "lora",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write a fleet file and a run file with comments; asks for what is not given."""
    quiet = yes or as_json
    kinds = ("local", "host", "container")
    runtime = _choice("runtime", _ask("Runtime", runtime, "local", yes=quiet), kinds)
    device = _choice("device", _ask("Device", device, "gpu", yes=quiet), ("gpu", "cpu"))
    _choice("tuner", tuner, ("lora", "full"))
    addresses = list(address or ())
    if runtime != "local" and not addresses:
        answer = _ask("Addresses of the nodes, in rank order", None, "", yes=quiet)
        addresses = answer.replace(",", " ").split()
        if not addresses:
            raise BadInputError(
                Finding(
                    f"an address for each node of runtime {runtime}",
                    "none",
                    "--address",
                    "add --address ADDRESS, once a node",
                )
            )
    where = root or ("nodes" if runtime == "local" else "/data/swiftops")
    model = _ask("Base model (path or hub id)", model, "/data/models/MODEL", yes=quiet)
    rows = list(dataset or ()) or [
        _ask("Training rows (path)", None, "/data/datasets/rows.jsonl", yes=quiet)
    ]
    model, rows = _seen_from(folder, model), [_seen_from(folder, path) for path in rows]
    name = _ask("Name of the run", name, "first-run", yes=quiet)
    count = nodes if runtime == "local" else len(addresses)
    ranks = count * (gpus if device == "gpu" else 1)
    texts = {
        folder / opt.FLEET: fleet_text(
            runtime=runtime,
            device=device,
            addresses=addresses,
            nodes=nodes,
            gpus=gpus,
            root=where,
        ),
        folder / opt.RUN: run_text(name, model, rows, tuner, ranks),
    }
    _check(texts, folder)
    _write(texts, force=force)
    if as_json:
        opt.emit({"fleet": str(folder / opt.FLEET), "run": str(folder / opt.RUN)})
        return
    for path in texts:
        typer.echo(f"wrote {path}")
    typer.echo(f"next: swiftops plan -i {folder / opt.FLEET} -r {folder / opt.RUN}")


def _check(texts: dict[Path, str], folder: Path) -> None:
    """Both texts must load: what was given may be no address, no name ..."""
    fleet, run = (yaml.safe_load(text) for text in texts.values())
    Fleet.from_document(fleet, folder / opt.FLEET)
    RunSpec.from_document(run, folder / opt.RUN)


def _write(texts: dict[Path, str], *, force: bool) -> None:
    there = [path for path in texts if path.exists()]
    if there and not force:
        raise BadInputError(
            Finding(
                "no such file yet",
                f"{there[0]} is there",
                str(there[0]),
                "name another folder, or write over it with --force",
            )
        )
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise BadInputError(
            Finding("a folder that can be written", str(problem), "FOLDER", "name another")
        ) from None


def schema(
    kind: Annotated[str, typer.Argument(help="fleet or run.")],
    *,
    as_json: opt.AsJson = True,  # noqa: ARG001 a schema is JSON anyway
) -> None:
    """Print the JSON Schema of the fleet file or of the run file."""
    if kind not in SCHEMAS:
        raise BadInputError(
            Finding(f"one of {', '.join(SCHEMAS)}", repr(kind), "KIND", "swiftops schema run")
        )
    opt.emit(SCHEMAS[kind]())
