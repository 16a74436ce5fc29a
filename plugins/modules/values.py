#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: values
short_description: Values of a run that are known only on the node
description:
  - Reads what earlier stages left (token lengths, the latest checkpoint) and leases free ports.
  - Leases are kept in a file, so that a job that is started again while it lives binds to the
    ports that are its own.
options:
  needs:
    description: Names of the values, for instance C(data.max_length) or C(lease.master_port).
    type: list
    elements: str
    required: true
  lengths:
    description: File that the data stage wrote.
    type: path
    required: true
  train:
    description: Training's output folder.
    type: path
    required: true
  gathered:
    description: The folder of checkpoints that were gathered apart from it; one there is preferred.
    type: path
  job:
    description: The job's folder.
    type: path
    required: true
  leases:
    description: File that keeps the job's leased ports.
    type: path
    required: true
  address:
    description: Address that leased ports are proven free on.
    type: str
    default: 127.0.0.1
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Values of the training job
  pyswiftops.fleet.values:
    needs: [data.max_length, lease.master_port]
    lengths: /data/swiftops/node-1/runs/demo/data/lengths.json
    train: /data/swiftops/node-1/runs/demo/train
    job: /data/swiftops/node-1/runs/demo/jobs/train
    leases: /data/swiftops/node-1/runs/demo/leases/train.json
"""

RETURN = r"""
known:
  description: Name to value.
  type: dict
  returned: success
  sample: {data.max_length: 48, lease.master_port: 21234}
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import job_view, ports, torch_dist
from ansible_collections.pyswiftops.fleet.plugins.module_utils.job_state import (
    JobFolder,
    State,
    write_json,
)

ALIVE = (State.STARTING, State.RUNNING, State.SUCCEEDED)


def max_length(params: dict) -> int:
    """Tokens of the longest row, as the data stage measured it."""
    return json.loads(Path(params["lengths"]).read_text(encoding="utf-8"))["max_length"]


def checkpoint(params: dict) -> str:
    """The latest checkpoint below training's output folder, or what was gathered of it apart."""
    output = Path(params["train"])
    found = torch_dist.locate(output) or torch_dist.of_transformers(output)
    if found is None:
        raise LookupError(f"no checkpoint below {params['train']}")
    apart = Path(params["gathered"] or output) / found.name
    return str(apart if apart.is_dir() else found)


def leases(params: dict, names: list, *, keep: bool) -> dict:
    """Ports by name: those of the job while it lives, free ones otherwise."""
    path = Path(params["leases"])
    if job_view.look(JobFolder(params["job"])).state in ALIVE and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    free = ports.lease(len(names), params["address"], ports.PORTS, params["job"])
    found = dict(zip(names, free))  # noqa: B905 the node's Python may be 3.9
    if keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return found


READERS = {"data.max_length": max_length, "train.checkpoint": checkpoint}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "needs": {"type": "list", "elements": "str", "required": True},
            "lengths": {"type": "path", "required": True},
            "train": {"type": "path", "required": True},
            "gathered": {"type": "path"},
            "job": {"type": "path", "required": True},
            "leases": {"type": "path", "required": True},
            "address": {"type": "str", "default": "127.0.0.1"},
        },
        supports_check_mode=True,
    )
    params = module.params
    values = {}
    leased = [name for name in params["needs"] if name.startswith("lease.")]
    for name in params["needs"]:
        if name in leased:
            continue
        try:
            values[name] = READERS[name](params)
        except (OSError, ValueError, LookupError) as problem:
            stage = name.split(".", maxsplit=1)[0]
            module.fail_json(
                msg=f"expected: {name}, which stage {stage} leaves behind; found: {problem}; "
                f"where: {params['job']}; remedy: run stage {stage} first"
            )
    if leased:
        try:
            values.update(leases(params, leased, keep=not module.check_mode))
        except (OSError, ports.PortError) as problem:
            module.fail_json(msg=f"ports for {params['job']}: {problem}")
    module.exit_json(changed=False, known=values)


if __name__ == "__main__":
    main()
