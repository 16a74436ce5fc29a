#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: push
short_description: Bring files from the controller to a node with rsync over ssh
version_added: 0.1.0
description:
  - Runs on the controller. Files of the same size and time are not sent again, and a file that
    was cut off is gone on with.
  - Proves nothing; run M(pyswiftops.fleet.pull) in check mode on the node afterwards, which says
    what is not as the manifest.
author:
  - The pyswiftops developers
options:
  source:
    description: Absolute folder on the controller.
    type: path
    required: true
  names:
    description: Files relative to O(source).
    type: list
    elements: str
    required: true
  checksum:
    description: Compare bytes, not sizes and times, for files that proved wrong.
    type: bool
    default: false
  dest:
    description: Where they go; the folder must be there.
    type: dict
    required: true
    suboptions:
      path:
        description: Absolute folder on the node.
        type: str
        required: true
      host:
        description: The node as ssh reaches it.
        type: str
        required: true
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
attributes:
  check_mode:
    description: Sends nothing.
    support: full
"""

EXAMPLES = r"""
- name: Bring a model from the controller to the first node
  pyswiftops.fleet.push:
    source: /home/ada/models/m
    names: "{{ listed.files | list }}"
    dest:
      host: 192.0.2.1
      user: ops
      path: /data/swiftops/node-1/hub/controller/models/0123456789ab/.m.fetching
  delegate_to: localhost
"""

RETURN = r"""
names:
  description: The files.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, rsync, transfer

DEST = {
    "path": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "port": {"type": "int"},
    "user": {"type": "str"},
    "ssh_options": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "dest": {"type": "dict", "required": True, "options": DEST},
            "checksum": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        names = [manifest.safe_relative(name) for name in params["names"]]
        remote = rsync.Remote(**params["dest"])
        if not module.check_mode:
            rsync.push(Path(params["source"]), remote, names, checksum=params["checksum"])
    except (manifest.ManifestError, transfer.PullError, OSError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.push: {error}")
    module.exit_json(changed=True, names=names)


if __name__ == "__main__":
    main()
