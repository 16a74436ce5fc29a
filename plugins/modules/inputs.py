#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: inputs
short_description: Look at a run's inputs on a node, changing nothing
description:
  - Reads the model's C(config.json), checks every training row, looks whether the node's root can
    be written, which ms-swift is installed and whether ports are free.
  - Never fails for what it finds; the findings say what was expected, found, where and the remedy.
options:
  model:
    description: The HF checkpoint's folder; not looked at where it is left out.
    type: path
  datasets:
    description: JSON lines files of training rows; empty where this node need not check them.
    type: list
    elements: path
    default: []
  answers:
    description: Whether each row must hold an answer, as for SFT; for GRPO prompts will do.
    type: bool
    default: true
  root:
    description: The node's own directory; it may not exist yet. Not looked at where left out.
    type: path
  python:
    description: The Python that ms-swift is installed in; not looked at where this is left out.
    type: path
  line:
    description: The release line that it must be, for instance 4.6.
    type: str
  address:
    description: Address that O(ports) must be free on.
    type: str
    default: 127.0.0.1
  ports:
    description: Ports that must be free.
    type: list
    elements: int
    default: []
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Look at the inputs
  pyswiftops.fleet.inputs:
    model: /data/models/Qwen2.5-7B-Instruct
    datasets: [/data/datasets/agent.jsonl]
    root: /data/swiftops/node-1
"""

RETURN = r"""
findings:
  description: What is not as it must be.
  type: list
  elements: dict
  returned: always
  sample: [{expected: a model folder, found: no config.json, where: /m, remedy: name one}]
model:
  description: Sizes out of C(config.json).
  type: dict
  returned: always
rows:
  description: Training rows found.
  type: int
  returned: always
"""

import json
import os
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import ports
from ansible_collections.pyswiftops.fleet.plugins.module_utils.rows import check_file

SIZES = (
    "model_type",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "hidden_size",
    "head_dim",
    "vocab_size",
)


def finding(expected: str, found: str, where: str, remedy: str) -> dict:
    """One finding as plain data."""
    return {"expected": expected, "found": found, "where": where, "remedy": remedy}


def look_at_model(path: str) -> tuple:
    """The model's sizes and what is wrong with its folder."""
    expected = "a Hugging Face checkpoint: a folder with config.json"
    remedy = "set model.path to the folder that holds config.json, or model.id to a hub id"
    config_path = Path(path, "config.json")
    if not config_path.parent.is_dir():
        return {}, [finding(expected, "no such folder", path, remedy)]
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, [finding(expected, "no config.json", path, remedy)]
    except (OSError, ValueError) as problem:
        return {}, [finding(expected, str(problem), str(config_path), "copy the checkpoint again")]
    inner = config.get("text_config") or {}
    sizes = {name: config.get(name, inner.get(name)) for name in SIZES}
    return {name: value for name, value in sizes.items() if value is not None}, []


def look_at_rows(path: str, *, answers: bool) -> tuple:
    """Number of rows in a file and what is wrong with them."""
    expected = "training rows: JSON lines with 'messages' of role and content"
    if Path(path).is_dir():  # a dataset of a hub: its rows are left to ms-swift's loader
        return 0, []
    try:
        result = check_file(path, answers=answers)
    except FileNotFoundError:
        remedy = "set data.train to files that the first node sees"
        return 0, [finding(expected, "no such file", path, remedy)]
    except OSError as problem:
        return 0, [finding(expected, str(problem), path, "make the file readable")]
    if not result["rows"]:
        return 0, [finding(expected, "an empty file", path, "add rows, or leave the file out")]
    findings = [
        finding(expected, item["found"], f"{path}:{item['line']}", "mend or remove that line")
        for item in result["problems"]
    ]
    more = result["problem_count"] - len(findings)
    if more > 0:
        findings.append(
            finding(expected, f"{more} more such lines", path, "mend the lines above first")
        )
    return result["rows"], findings


def look_at_root(root: str) -> list:
    """Whether the node's root, or the nearest folder that exists above it, can be written."""
    above = Path(root)
    while not os.path.lexists(above):
        above = above.parent
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return []
    what = "not writable" if above.is_dir() else "not a folder"
    remedy = "choose another root, or make the folder writable for the login user"
    return [finding("a root that the node can write", f"{above} is {what}", root, remedy)]


def look_at_line(python: str, line: str) -> list:
    """Whether ms-swift of the line, or that very version, is there; an import would take 10 s."""
    ask = "from importlib.metadata import version; print(version('ms-swift'))"
    try:
        done = subprocess.run(
            [python, "-c", ask], capture_output=True, text=True, check=False, timeout=60
        )
        found = done.stdout.strip() or "none"
    except (OSError, subprocess.TimeoutExpired) as problem:
        found = str(problem)
    if found == line or found.startswith(f"{line}."):
        return []
    remedy = "name the right Python (python) or release line (line) in the fleet file"
    return [finding(f"ms-swift {line}", found, python, remedy)]


def look_at_port(address: str, port: int) -> list:
    """Whether a port can be bound."""
    try:
        ports.lease(1, address, range(port, port + 1))
    except ports.PortError:
        remedy = "set deploy.port to a free one, or to auto"
        return [finding("a free port", "port taken", f"{address}:{port}", remedy)]
    return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "model": {"type": "path"},
            "datasets": {"type": "list", "elements": "path", "default": []},
            "answers": {"type": "bool", "default": True},
            "root": {"type": "path"},
            "python": {"type": "path"},
            "line": {"type": "str"},
            "address": {"type": "str", "default": "127.0.0.1"},
            "ports": {"type": "list", "elements": "int", "default": []},
        },
        supports_check_mode=True,
    )
    sizes, findings = {}, []
    if module.params["model"]:
        sizes, findings = look_at_model(module.params["model"])
    total = 0
    for path in module.params["datasets"]:
        rows, problems = look_at_rows(path, answers=module.params["answers"])
        total += rows
        findings += problems
    if module.params["root"]:
        findings += look_at_root(module.params["root"])
    if module.params["python"]:
        findings += look_at_line(module.params["python"], str(module.params["line"]))
    for port in module.params["ports"]:
        findings += look_at_port(module.params["address"], port)
    module.exit_json(changed=False, findings=findings, model=sizes, rows=total)


if __name__ == "__main__":
    main()
