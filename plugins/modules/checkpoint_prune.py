#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_prune
short_description: Remove checkpoints of a training from a node
version_added: 0.1.0
description:
  - Removes exactly the given folders. Each must lie in one of O(roots), be named C(checkpoint-N),
    C(checkpoint-N-merged) or C(iter_N), be what it was when its fingerprint was taken, and be used
    by no process. If one is not, nothing is removed on this node.
  - A folder is renamed before it is removed. Links are not followed. A folder that is not there any
    more is none that fails, since nodes may share a disk.
author:
  - The pyswiftops developers
options:
  roots:
    description: Folders that the removal is confined to.
    type: list
    elements: path
    required: true
  checkpoints:
    description: Folder to the fingerprint that M(pyswiftops.fleet.checkpoint_ledger) gave of it.
    type: dict
    required: true
attributes:
  check_mode:
    description: Fails as it would without; removes nothing.
    support: full
"""

EXAMPLES = r"""
- name: An old checkpoint goes
  pyswiftops.fleet.checkpoint_prune:
    roots: [/data/runs/demo/train]
    checkpoints:
      /data/runs/demo/train/checkpoint-10: 0f6e…
"""

RETURN = r"""
removed:
  description: Folders that were removed, or would be.
  returned: success
  type: list
  elements: str
gone:
  description: Folders that were not there any more.
  returned: success
  type: list
  elements: str
leftovers:
  description: What an earlier removal was interrupted in, and is removed now.
  returned: success
  type: list
  elements: str
obstacles:
  description: Why nothing was removed.
  returned: failed
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import removal


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "roots": {"type": "list", "elements": "path", "required": True},
            "checkpoints": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params["checkpoints"]
    found = removal.obstacles(module.params["roots"], wanted)
    if found:
        module.fail_json(msg=f"nothing was removed: {'; '.join(found)}", obstacles=found)
    if module.check_mode:
        here = [name for name in wanted if not removal.is_gone(Path(name))]
        gone = [name for name in wanted if name not in here]
        module.exit_json(changed=bool(here), removed=here, gone=gone, leftovers=[])
    answer = removal.remove(list(wanted))
    left = removal.remove_leftovers([Path(name).parent for name in wanted])
    if answer["failed"]:
        module.fail_json(msg="; ".join(answer["failed"]), **{**answer, "failed": True})
    del answer["failed"]
    module.exit_json(changed=bool(answer["removed"] or left), leftovers=left, **answer)


if __name__ == "__main__":
    main()
