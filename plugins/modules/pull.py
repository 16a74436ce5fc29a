#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: pull
short_description: Copy a folder from another node, held against its manifest
version_added: 0.1.0
description:
  - Runs on the destination node and copies the files of a manifest (M(pyswiftops.fleet.manifest),
    made on the source node) that are missing or differ. A file gets its final name only after
    its hash equals the manifest.
  - A pull that was cut off is continued. Nothing in O(dest) is ever deleted.
  - Names in the manifest that would leave O(dest) are refused before anything is written.
author:
  - The pyswiftops developers
options:
  source:
    description: Where the files are.
    type: dict
    required: true
    suboptions:
      path:
        description: Absolute folder that the manifest describes.
        type: str
        required: true
      host:
        description: The node to reach over ssh. Without it the folder is on this machine.
        type: str
      port:
        description: Its ssh port; ssh's configuration decides where left out.
        type: int
      user:
        description: The login there; ssh's configuration decides where left out.
        type: str
      ssh_options:
        description: Further arguments of ssh, one an element. Host key checking stays as set.
        type: list
        elements: str
        default: []
  dest:
    description: The folder to fill; made where it is missing.
    type: path
    required: true
  files:
    description: The C(files) that M(pyswiftops.fleet.manifest) returned for the source.
    type: dict
    required: true
  bwlimit:
    description: As rsync's C(--bwlimit) (KiB per second, or with a unit). Over ssh only.
    type: str
  verify:
    description:
      - V(true) hashes the bytes on their way; V(reread) also reads the copy back from the disk;
        V(false) compares sizes only, and takes a file of the same size and time as copied.
    type: str
    choices: ["true", "false", "reread"]
    default: "true"
attributes:
  check_mode:
    description: Says what would be copied.
    support: full
"""

EXAMPLES = r"""
- name: Gather node-2's shards on node rank 0
  pyswiftops.fleet.pull:
    source:
      host: 10.0.0.2
      port: 2333
      user: root
      path: /data/runs/demo/train/checkpoint-100
    dest: /data/runs/demo/train/checkpoint-100
    files: "{{ hostvars['node-2'].shards.files }}"

- name: The same between two nodes of one machine
  pyswiftops.fleet.pull:
    source:
      path: /data/node-2/runs/demo/train/checkpoint-100
    dest: /data/node-1/runs/demo/train/checkpoint-100
    files: "{{ hostvars['node-2'].shards.files }}"
    verify: reread
"""

RETURN = r"""
copied:
  description: Relative paths that were copied (in check mode, that would be).
  returned: success
  type: list
  elements: str
kept:
  description: Relative paths that were there already, as the manifest says.
  returned: success
  type: list
  elements: str
bytes:
  description: The sum of the sizes of C(copied).
  returned: success
  type: int
seconds:
  description: How long it took, the comparison included.
  returned: success
  type: float
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, rsync, transfer

SOURCE = {
    "path": {"type": "str", "required": True},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "user": {"type": "str"},
    "ssh_options": {"type": "list", "elements": "str", "default": []},
}


def pull(params: dict, *, check: bool) -> dict:
    """Plan and, unless ``check``, copy; return what ``RETURN`` says."""
    started = time.monotonic()
    source = params["source"]
    dest = Path(params["dest"])
    verify = params["verify"]
    if not dest.is_absolute() or not source["path"].startswith("/"):
        raise transfer.PullError(
            f"expected absolute folders, found source {source['path']!r} and dest {str(dest)!r}"
        )
    remote = rsync.Remote(**source) if source["host"] else None
    files = manifest.validated(params["files"])
    todo = transfer.plan(dest, files, verify)
    if todo.copy and not check:
        if remote is None:
            transfer.pull_local(Path(source["path"]), dest, files, todo, verify)
        else:
            rsync.pull(remote, dest, files, todo, verify, bwlimit=params["bwlimit"])
    return {
        "changed": bool(todo.copy),
        "copied": list(todo.copy),
        "kept": list(todo.skipped),
        "bytes": todo.bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {
                "type": "dict",
                "required": True,
                "options": SOURCE,
                "required_by": {"port": ["host"], "user": ["host"]},
            },
            "dest": {"type": "path", "required": True},
            "files": {"type": "dict", "required": True},
            "bwlimit": {"type": "str"},
            "verify": {"type": "str", "choices": list(transfer.VERIFY), "default": "true"},
        },
        supports_check_mode=True,
    )
    try:
        answer = pull(module.params, check=module.check_mode)
    except (manifest.ManifestError, transfer.PullError, OSError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.pull: {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
