#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: fetched
short_description: Look at a folder of fetched files, or give it its name
version_added: 0.1.0
description:
  - A fetched model or dataset has its name on a node only once it is whole. Until then it lies in
    a staging folder beside it. A record beside it keeps sizes, times and hashes of its files.
author:
  - The pyswiftops developers
options:
  folder:
    description: The folder's name once it is whole.
    type: path
    required: true
  staging:
    description: The folder that is filled.
    type: path
    required: true
  record:
    description: The JSON file that keeps what the folder holds.
    type: path
    required: true
  files:
    description:
      - What the source holds, as M(pyswiftops.fleet.manifest) returns it. Without it the record
        counts.
    type: dict
  state:
    description:
      - V(read) tells whether the folder is whole, by sizes and times.
      - V(staged) makes the staging folder; files that are there already are linked, not copied.
      - V(settled) gives the staging folder its name, if it holds what it must. Bytes are proven
        before, by M(pyswiftops.fleet.pull) or by the download.
    type: str
    choices: [read, staged, settled]
    default: read
attributes:
  check_mode:
    description: Looks only.
    support: full
"""

EXAMPLES = r"""
- name: What this node holds
  pyswiftops.fleet.fetched:
    folder: /data/swiftops/node-2/hub/modelscope/models/master/Qwen/Qwen2.5-7B-Instruct
    staging: /data/swiftops/node-2/hub/modelscope/models/master/Qwen/.Qwen2.5-7B-Instruct.fetching
    record: /data/swiftops/node-2/hub/modelscope/models/master/Qwen/.Qwen2.5-7B-Instruct.json
  register: held
"""

RETURN = r"""
complete:
  description: Whether the folder is whole.
  returned: always
  type: bool
present:
  description: Whether there is a folder of that name, whole or not.
  returned: always
  type: bool
files:
  description: What its record says that it holds.
  returned: always
  type: dict
lacking:
  description: Bytes that are still to come, where O(files) says what the source holds.
  returned: always
  type: int
free:
  description: Bytes that are free on the node's disk.
  returned: always
  type: int
room:
  description: C(free), and the bytes of it that are there already.
  returned: always
  type: int
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import fetched, manifest


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "staging": {"type": "path", "required": True},
            "record": {"type": "path", "required": True},
            "files": {"type": "dict"},
            "state": {"type": "str", "choices": ["read", "staged", "settled"], "default": "read"},
        },
        supports_check_mode=True,
    )
    params = module.params
    place = fetched.Place(*(Path(params[name]) for name in fetched.Place._fields))
    try:
        files = None if params["files"] is None else manifest.validated(params["files"])
        changed = False
        if params["state"] == "staged" and not module.check_mode:
            changed = fetched.stage(place)
        elif params["state"] == "settled" and not module.check_mode:
            changed = fetched.settle(place, files)
        answer = fetched.look(place, files)
    except (fetched.FetchedError, manifest.ManifestError, OSError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.fetched: {error}")
    module.exit_json(changed=changed, **answer)


if __name__ == "__main__":
    main()
