#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: manifest
short_description: List a folder's files with sizes and hashes
version_added: 0.1.0
description:
  - Lists every file below a folder, hidden ones such as C(.metadata) included, with its size,
    modification time and blake2b hash. M(pyswiftops.fleet.pull) takes the answer as the proof
    that a copy is held against.
  - Changes nothing.
author:
  - The pyswiftops developers
options:
  path:
    description:
      - The folder, or one file. One that does not exist is reported as C(missing), not as a
        failure.
    type: path
    required: true
  include:
    description:
      - Globs that select files; all files where the list is empty.
      - A glob without a slash is matched against file names in any folder, one with a slash
        against the path relative to O(path). C(*) stays within a folder, C(**) crosses folders,
        and both match names that start with a dot.
    type: list
    elements: str
    default: []
  hash:
    description: Whether to read and hash the files. Without hashes only sizes are proof.
    type: bool
    default: true
attributes:
  check_mode:
    description: The module reads only, so that check mode gives the same answer.
    support: full
"""

EXAMPLES = r"""
- name: List this node's shards of a checkpoint
  pyswiftops.fleet.manifest:
    path: /data/runs/demo/train/checkpoint-100
    include:
      - "*.distcp"
      - .metadata
  register: shards
"""

RETURN = r"""
folder:
  description: The folder that names are relative to; a file's own folder.
  returned: always
  type: str
files:
  description: Relative path to C(size) (bytes), C(mtime_ns) (nanoseconds) and C(blake2b) (hex).
  returned: always
  type: dict
  sample:
    iter_0000100/.metadata:
      size: 103422
      mtime_ns: 1760000000000000000
      blake2b: 0123456789abcdef0123456789abcdef
bytes:
  description: The sum of the sizes.
  returned: always
  type: int
missing:
  description: Whether the folder is not there.
  returned: always
  type: bool
left_out:
  description: What lies in the folder but is no file (links to folders, broken links, sockets).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "include": {"type": "list", "elements": "str", "default": []},
            "hash": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        answer = manifest.build(params["path"], params["include"], hashed=params["hash"])
    except (manifest.ManifestError, OSError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.manifest: {error}")
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
