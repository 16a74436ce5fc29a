#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_keys
short_description: Keep a fleet's key, its pinned host keys and its ssh_config on the controller
version_added: 0.1.0
description:
  - It is an action plugin, runs on the controller only, and calls no node. Use C(run_once).
  - Makes the fleet's key where there is none (ed25519, mode 0600, in a folder of mode 0700), and
    writes an C(ssh_config) with which C(ssh -F) reaches the nodes as Ansible does.
  - Pins host keys. A key that differs from the pinned one is refused, and nothing is changed.
    Nodes that are not named keep their lines, so that one that is down loses nothing.
author:
  - The pyswiftops developers
options:
  state:
    description: The fleet's folder on the controller.
    type: str
    required: true
  fleet:
    description: The fleet's name; the key's comment.
    type: str
    default: fleet
  nodes:
    description: Names of the nodes in rank order; where empty those of C(swiftops_nodes).
    type: list
    elements: str
    default: []
  pins:
    description: Alias to public host key, as the node's container or console says it.
    type: dict
    default: {}
  forget:
    description: Aliases whose pinned key goes, before O(pins) is looked at.
    type: list
    elements: str
    default: []
  rotate:
    description:
      - V(next) makes a second key, V(switch) makes it the fleet's, V(drop) removes the one before.
        While there are several, RV(public_keys) has all of them.
    type: str
    choices: ["no", next, switch, drop]
    default: "no"
  environment:
    description: Variables of the nodes' image; kept for executions that do not know the image.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Changes nothing, and says whether a key would be made.
    support: full
"""

EXAMPLES = r"""
- name: Pin the host keys that the containers have told
  pyswiftops.fleet.fleet_keys:
    state: "{{ swiftops_state }}"
    pins: {swiftops-demo-node-1: "ssh-ed25519 AAAA..."}
  run_once: true
"""

RETURN = r"""
did:
  description: What was changed, in words.
  returned: success
  type: list
  elements: str
key:
  description: The fleet's private key, on the controller.
  returned: success
  type: str
next_key:
  description: The one that is to be the fleet's; it exists between V(next) and V(switch).
  returned: success
  type: str
known_hosts:
  description: The pinned host keys, on the controller.
  returned: success
  type: str
public_keys:
  description: Keys that the nodes are to take, those that the inventory names included.
  returned: success
  type: list
  elements: str
nodes:
  description: What other nodes must know of each.
  returned: success
  type: list
  elements: dict
unpinned:
  description: Nodes without a pinned host key.
  returned: success
  type: list
  elements: str
"""

ARGUMENTS = {
    "state": {"type": "str", "required": True},
    "fleet": {"type": "str", "default": "fleet"},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "pins": {"type": "dict", "default": {}},
    "forget": {"type": "list", "elements": "str", "default": []},
    "rotate": {"type": "str", "choices": ["no", "next", "switch", "drop"], "default": "no"},
    "environment": {"type": "dict", "default": {}},
}
