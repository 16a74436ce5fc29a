#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: record
short_description: Say what machine a node is, and what files it holds, for a run's passport
description:
  - Reads only. What it cannot read it says in C(problems) and does not fail, since a record is not
    worth a run.
options:
  machine:
    description: Whether to tell of the machine.
    type: bool
    default: false
  files:
    description: Files and folders to take the fingerprint of, label to absolute path.
    type: dict
    default: {}
  limit:
    description:
      - Bytes to hash at most of each. The smallest files of a folder are hashed first; of the
        others only the size is told.
    type: int
    default: 4294967296
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: For the passport
  pyswiftops.fleet.record:
    machine: true
    files:
      model: /data/models/Qwen2.5-7B-Instruct
      data.1: /data/datasets/agent.jsonl
"""

RETURN = r"""
machine:
  description: Kernel, system, processors, memory, GPUs and driver.
  type: dict
  returned: with O(machine)
files:
  description:
    - Label to C(path), C(bytes), C(blake2b), C(whole), C(files), C(left_out), and for one text file
      C(rows).
  type: dict
  returned: always
problems:
  description: A sentence for each path that could not be read.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import (
    fingerprint,
    machine,
    manifest,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "machine": {"type": "bool", "default": False},
            "files": {"type": "dict", "default": {}},
            "limit": {"type": "int", "default": 4294967296},
        },
        supports_check_mode=True,
    )
    files, problems = {}, []
    for label, path in module.params["files"].items():
        try:
            files[label] = fingerprint.take(str(path), module.params["limit"])
        except (manifest.ManifestError, OSError) as error:
            problems.append(f"{label}: {error}")
    told = {"machine": machine.look()} if module.params["machine"] else {}
    module.exit_json(changed=False, files=files, problems=problems, **told)


if __name__ == "__main__":
    main()
