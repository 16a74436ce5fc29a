#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: network_decision
short_description: Decide what the nodes of a fleet train over, from what they told
version_added: 0.1.0
description:
  - It is an action plugin, runs on the controller only, and calls no node. Use C(run_once).
  - Reads what the nodes told (C(nccl_facts) or C(settings_done), registered before), keeps it in
    the fleet's folder with the file that each node is to get, and warns of what is not as it
    should be. A node that told nothing keeps what it told before.
author:
  - The pyswiftops developers
options:
  state:
    description: The fleet's folder on the controller.
    type: str
    required: true
attributes:
  check_mode:
    description: Keeps nothing.
    support: full
"""

EXAMPLES = r"""
- name: What they train over
  pyswiftops.fleet.network_decision:
    state: "{{ swiftops_state }}"
  run_once: true
"""

RETURN = r"""
fabric:
  description: V(ib), V(roce), V(efa), V(mixed) or V(none); the last two are sockets.
  returned: success
  type: str
nodes:
  description: Nodes whose file is another than before.
  returned: success
  type: list
  elements: str
remarks:
  description: What is not as it should be, with C(code), C(severity), C(expected), C(found),
    C(where), C(remedy).
  returned: success
  type: list
  elements: dict
"""

ARGUMENTS = {"state": {"type": "str", "required": True}}
