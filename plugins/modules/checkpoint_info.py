#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_info
short_description: Say what a node holds of a Megatron checkpoint
version_added: 0.1.0
description:
  - Reads the index of a torch_dist checkpoint without torch and without running what is in it,
    and compares it with the shard files that are there. C(common.pt) decides nothing.
  - On a node that holds only its own shards it says which.
author:
  - The pyswiftops developers
options:
  path:
    description:
      - A C(checkpoint-N) folder, an C(iter_) folder in one, or the output folder of a training;
        of that the highest C(checkpoint-N) that holds a tracker or a shard is taken.
    type: path
    required: true
  require_complete:
    description: Whether to fail unless the checkpoint is complete.
    type: bool
    default: false
  needed_for:
    description:
      - What the checkpoint is for; it words the failure. Both need every shard, since optimizer
        and weights share the shard files.
    type: str
    choices: [export, resume]
  nodes:
    description: Node names in node rank order; with O(ranks_per_node) a failure names the node.
    type: list
    elements: str
    default: []
  ranks_per_node:
    description: Training ranks of each node.
    type: int
    default: 0
  answer:
    description: The file that the program of a gather has just answered in.
    type: path
attributes:
  check_mode:
    description: The module reads only, so that check mode gives the same answer.
    support: full
"""

EXAMPLES = r"""
- name: Refuse to export what was not gathered
  pyswiftops.fleet.checkpoint_info:
    path: /data/runs/demo/train
    require_complete: true
    needed_for: export
    nodes: "{{ groups['nodes'] }}"
    ranks_per_node: 8
"""

RETURN = r"""
checkpoint:
  description: The checkpoint folder; null where O(path) holds none.
  returned: always
  type: str
iteration:
  description: Its iteration; null where unknown or C(release).
  returned: always
  type: int
iter_dir:
  description: The folder of the shards; null where there is none.
  returned: always
  type: str
needed:
  description: Shard file to the bytes that the index asks for; empty without an index.
  returned: always
  type: dict
shards:
  description: Shard file to the bytes that are here.
  returned: always
  type: dict
missing:
  description: Shard files that are not here.
  returned: always
  type: list
  elements: str
short:
  description: Shard files that are too small or half copied, as C(name), C(needed), C(found).
  returned: always
  type: list
  elements: dict
extra:
  description: Files beside the shards that no checkpoint needs.
  returned: always
  type: list
  elements: str
ranks:
  description: The global ranks whose shards are here.
  returned: always
  type: list
  elements: int
has_args:
  description: Whether C(args.json) is here.
  returned: always
  type: bool
has_tracker:
  description: Whether C(latest_checkpointed_iteration.txt) is here.
  returned: always
  type: bool
has_metadata:
  description: Whether the index C(.metadata) is here.
  returned: always
  type: bool
has_metadata_json:
  description: Whether C(metadata.json) is here.
  returned: always
  type: bool
gathered:
  description:
    - What the last gather into the checkpoint brought, as C(bytes), C(moved), C(by_node),
      C(seconds) and C(left_out); empty where there was none.
  returned: always
  type: dict
brought:
  description: The same of the gather that answered in O(answer); empty without that file.
  returned: always
  type: dict
complete:
  description: Whether everything is here that loading needs.
  returned: always
  type: bool
problems:
  description: A sentence for each thing that is not as it should be.
  returned: always
  type: list
  elements: str
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist, torch_dist_index
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import proof


def brought(answer: str | None) -> dict:
    """What a gather answered, but for what stands at its target then.

    Raises:
        ValueError: It is no answer.
    """
    if not answer or not Path(answer).is_file():
        return {}
    told: dict = json.loads(Path(answer).read_text(encoding="utf-8"))
    return {name: told[name] for name in ("bytes", "moved", "by_node", "seconds", "left_out")}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "require_complete": {"type": "bool", "default": False},
            "needed_for": {"type": "str", "choices": ["export", "resume"]},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "ranks_per_node": {"type": "int", "default": 0},
            "answer": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    gathered: dict = {}
    try:
        answer = torch_dist.inspect_any(Path(params["path"]))
        if answer["checkpoint"]:
            gathered = proof.summary(Path(answer["checkpoint"]))
            gathered.pop("files", None)
        now = brought(params["answer"])
    except (torch_dist_index.TorchDistError, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.checkpoint_info: {error}")
    if params["require_complete"] and not answer["complete"]:
        message = torch_dist.explain(
            answer, params["needed_for"] or "", params["nodes"], params["ranks_per_node"]
        )
        module.fail_json(msg=message, **answer)
    module.exit_json(changed=False, gathered=gathered, brought=now, **answer)


if __name__ == "__main__":
    main()
