"""Ways to train that need GPUs, or that a CPU is too slow for: several at once on one node.

usage: methods.py FOLDER [--device cpu] [NAME ...]

The node has every GPU of the machine, one rank each. Each method is a run of its own on the demo's
model, from its data to its export; the last line of each says how it ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derived import gpu_memory
from quantized import small_llama

from pyswiftops.client import Client
from pyswiftops.demo.run import DemoFiles, DemoOptions, prepare
from pyswiftops.errors import SwiftOpsError
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

STAGES = ("data", "convert", "train", "gather", "export", "eval", "sample")
AT_ONCE = 4
SMALL = "small"
Row = dict[str, Any]


def answered(row: Row, _number: int) -> Row:
    """A row of SFT."""
    return row


def preferred(row: Row, _number: int) -> Row:
    """A better and a worse answer."""
    return {**row, "rejected_response": "No."}


def judged(row: Row, number: int) -> Row:
    """An answer that is liked or not."""
    return {**row, "label": number % 2 == 0}


def labelled(row: Row, number: int) -> Row:
    """A text and its class."""
    user = [message for message in row["messages"] if message["role"] == "user"]
    return {"messages": user[:1], "label": number % 2}


def asked(row: Row, _number: int) -> Row:
    """A question alone."""
    return {"messages": row["messages"][:-1]}


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        changes: Keys of the run file, in place of the demo's.
        rows: What a row of the demo becomes.
        ranks: GPUs that it needs.
        small: On a small Llama with random weights, whose 8 heads two GPUs divide.
    """

    changes: dict[str, Any]
    rows: Callable[[Row, int], Row] = answered
    ranks: int = 1
    small: bool = False


FULL = {"tuner": "full", "bridge": True}
RLHF = {"task": "rlhf", "tuner": "lora", "bridge": True}
PLAIN = {"backend": "swift", "tuner": "lora"}
SPLIT = {"method": {"tuner": "lora"}, "parallel": {"pipeline": 2}}
TENSOR = {"method": {"tuner": "lora"}, "parallel": {"tensor": 2}}
METHODS = {
    "pt": Method({"method": {**FULL, "task": "pt"}}),
    "fp8": Method({"method": FULL, "training": {"fp8": "e4m3", "fp8_recipe": "blockwise"}}),
    "context": Method({"method": FULL, "parallel": {"context": 2}}, ranks=2),
    "export_mcore": Method({"method": {"tuner": "lora"}, "export": {"form": "mcore"}}),
    "export_all": Method(
        {**SPLIT, "export": {"gpus": "all", "proof": "full"}}, ranks=2, small=True
    ),
    "export_all_full": Method(
        {
            **SPLIT,
            "method": FULL,
            "export": {"gpus": "all", "proof": "full", "quantize": {"method": "bnb"}},
        },
        ranks=2,
        small=True,
    ),
    "export_all_mcore": Method(
        {**SPLIT, "export": {"form": "mcore", "gpus": "all"}}, ranks=2, small=True
    ),
    "tensor_one": Method(
        {**TENSOR, "export": {"gpus": "one", "proof": "full"}}, ranks=2, small=True
    ),
    "tensor_all": Method(
        {**TENSOR, "export": {"gpus": "all", "proof": "full"}}, ranks=2, small=True
    ),
    "tensor_full": Method(
        {**TENSOR, "method": FULL, "export": {"gpus": "one", "proof": "full"}},
        ranks=2,
        small=True,
    ),
    "export_precision": Method(
        {**SPLIT, "export": {"gpus": "all", "test_precision": True}}, ranks=2, small=True
    ),
    "kto": Method({"method": {**RLHF, "rlhf": {"type": "kto"}}}, judged),
    "rm": Method({"method": {**RLHF, "rlhf": {"type": "rm"}}}, preferred),
    "seq_cls": Method(
        {"method": {"tuner": "lora", "bridge": True, "task_type": "seq_cls", "num_labels": 2}},
        labelled,
    ),
    "plain_full": Method({"method": {**PLAIN, "tuner": "full"}}),
    "plain_fsdp": Method(
        {"method": {**PLAIN, "fsdp": "fsdp2"}, "output": {"save_optimizer": False}}, ranks=2
    ),
    "plain_dpo": Method({"method": {**PLAIN, "task": "rlhf", "rlhf": {"type": "dpo"}}}, preferred),
    "plain_grpo": Method(
        {
            "method": {**PLAIN, "task": "rlhf", "rlhf": {"type": "grpo"}},
            "extra_args": {
                "train": {
                    "reward_funcs": ["format"],
                    "num_generations": 4,
                    "max_completion_length": 16,
                    "use_vllm": False,
                }
            },
        },
        asked,
    ),
}


def run(name: str, base: RunSpec, fleet: Fleet, files: DemoFiles) -> bool:
    """Do one method; say how it ended."""
    method, begin = METHODS[name], time.monotonic()
    path = files.folder / f"{name}.jsonl"
    lines = files.rows.read_text(encoding="utf-8").splitlines()
    made = (method.rows(json.loads(line), number) for number, line in enumerate(lines))
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    document = base.model_dump(mode="json", by_alias=True, exclude_unset=True)
    training = {**document["training"], "iterations": 4, "epochs": None, "seed": 42}
    training |= {"micro_batch_size": 4, "global_batch_size": 8}
    if method.small:
        document["model"] = {**document["model"], "path": str(files.folder / SMALL)}
    document |= {"name": name, "data": {"train": [str(path)]}, "parallel": {}}
    if method.changes.get("method", {}).get("backend") == "swift":
        document.pop("extra_args", None)  # the demo's are Megatron's
    changes = dict(method.changes)
    document |= {"training": {**training, **changes.pop("training", {})}, **changes}
    ended = "succeeded"
    try:
        spec = RunSpec.from_document({"run": document}, path)
        client = Client(files.runs)
        client.apply(client.plan(fleet, spec), stages=STAGES)
    except SwiftOpsError as problem:
        ended = "failed"
        (files.folder / f"{name}.error").write_text(str(problem), encoding="utf-8")
    seconds = time.monotonic() - begin
    sys.stdout.write(f"RESULT method={name} state={ended} wall_s={seconds:.0f}\n")
    sys.stdout.flush()
    return ended == "succeeded"


def main() -> int:
    """All methods, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"])
    given = parser.parse_args()
    gpus = list(range(len(gpu_memory()))) if given.device == "gpu" else []
    options = DemoOptions("Ada", "a team", given.folder, device=given.device, nodes=1)
    files, fleet, base = prepare(options)
    if gpus:
        node = fleet.nodes[0].model_copy(update={"gpus": gpus})
        fleet = fleet.model_copy(update={"nodes": [node]})
    small_llama(files.model, files.folder / SMALL)
    ranks = max(1, len(gpus))
    names = given.names or [name for name, method in METHODS.items() if method.ranks <= ranks]
    with ThreadPoolExecutor(AT_ONCE if gpus else 1) as pool:
        done = list(pool.map(lambda name: run(name, base, fleet, files), names))
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
