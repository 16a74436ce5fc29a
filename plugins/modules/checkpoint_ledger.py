#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_ledger
short_description: List the checkpoints in folders of a node
version_added: 0.1.0
description:
  - Finds every checkpoint in the given folders, in the layouts of all release lines, and says which
    of its files are here. Reads only; nothing of a checkpoint is loaded or run.
  - Links to folders are not followed, but for the given folders themselves.
  - What cannot be read is told in C(problems) and does not fail the module.
author:
  - The pyswiftops developers
options:
  paths:
    description: Folders; each is a checkpoint, or holds some, at most four folders deep.
    type: list
    elements: path
    required: true
  settle:
    description: A file that changed within so many seconds counts as still written.
    type: float
    default: 30.0
attributes:
  check_mode:
    description: The module reads only, so that check mode gives the same answer.
    support: full
"""

EXAMPLES = r"""
- name: What this node holds
  pyswiftops.fleet.checkpoint_ledger:
    paths: [/data/runs/demo/train]
"""

RETURN = r"""
checkpoints:
  description: The checkpoints, in the order of the folders' names.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The same on all nodes of a fleet., type: str}
    path: {description: The folder that is the checkpoint., type: str}
    base: {description: The folder that names of files begin at., type: str}
    root: {description: The given folder that it lies in., type: str}
    links: {description: Names of links beside it that lead to it., type: list}
    iter_dir: {description: The folder of Megatron's shards., type: str}
    iteration: {description: The iteration; null where unknown., type: int}
    iterations: {description: Of its shards and of its name., type: list}
    tracker: {description: What the tracker file says; null without., type: str}
    files:
      description: Name to C(size), C(mtime_ns) and C(identity) (inode and time of change).
      type: dict
    fingerprint: {description: 'Of names, sizes and times of its own files.', type: str}
    newest_mtime_ns: {description: When its newest file was written., type: int}
    age: {description: Seconds since then by the node's clock., type: float}
    half: {description: Names of half written files., type: list}
    writing: {description: Whether it may still be written., type: bool}
    kind: {description: 'C(mcore), C(mcore_lora), C(hf), C(hf_lora), or empty.', type: str}
    forms: {description: All of these that lie there., type: list}
    merged: {description: Whether LoRA was merged into it., type: bool}
    needed: {description: File to the least bytes it must have., type: dict}
    needed_hf: {description: The same of its Hugging Face form., type: dict}
    index_digest: {description: Hash of C(.metadata); null without., type: str}
    refused: {description: Whether the index names what no checkpoint holds., type: bool}
    damaged: {description: Files that are not what they must be., type: list}
    has_optimizer: {description: Null where nothing here tells., type: bool}
    has_rng: {description: Null where nothing here tells., type: bool}
    reshardable: {description: Whether the optimizer loads at other sizes., type: bool}
    parallel: {description: Parallel sizes by name., type: dict}
    swift_version: {description: By C(args.json)., type: str}
    used_by: {description: Processes that name it or have its files open., type: list}
    problems: {description: A sentence for each thing that is not as it should be., type: list}
now:
  description: Seconds since the epoch by the node's clock.
  returned: always
  type: float
trainings:
  description:
    - Of each folder of checkpoints C(root), C(name), and how good they are by its log, as
      C(metric), C(greater) (more is better), C(values) (by iteration) and C(told) (the best, by
      upstream).
  returned: always
  type: list
  elements: dict
missing:
  description: Given folders that are not here.
  returned: always
  type: list
  elements: str
used_by:
  description: Given folder to the processes that name it or have files of it open.
  returned: always
  type: dict
problems:
  description: What could not be listed.
  returned: always
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import in_use, layout


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "settle": {"type": "float", "default": layout.SETTLE_SECONDS},
        },
        supports_check_mode=True,
    )
    paths = module.params["paths"]
    answer = layout.scan(paths, module.params["settle"])
    found = answer["checkpoints"]
    used = in_use.users(list(dict.fromkeys([*paths, *(item["path"] for item in found)])))
    for item in found:
        item["used_by"] = used[item["path"]]
    answer["used_by"] = {path: used[path] for path in paths}
    module.exit_json(changed=False, now=time.time(), **answer)


if __name__ == "__main__":
    main()
