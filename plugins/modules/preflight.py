#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Say what bears on a launch, and meet all other nodes
description:
  - Looks at shared memory, disks, limits, GPUs, the kernel's log, processes, ports, names, proxies,
    packages and services of a node. Judges nothing; the filter C(preflight_report) does.
  - Meets the other nodes, which run this module at the same time. Each listens on ports of its own
    and connects to those of the others, so that all must have a fork of their own. Clocks are
    compared over these connections.
  - It is an action plugin, which ships a program on the standard input of one execution. Needs
    Python 3.9 on the node, nothing else.
  - Leaves a small file in each folder that nodes may share, for the others to look for, and removes
    it. Changes nothing else.
options:
  node:
    description: This node's name in the request.
    type: str
    required: true
  request:
    description: What all nodes are asked; the filter C(preflight_request) makes it.
    type: dict
    required: true
  host:
    description:
      - Whether this is no node but a host of containers that are. It then meets nobody, and tells
        only of the kernel's log, of services and of GPUs' drivers.
    type: bool
    default: false
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Look at all nodes, at the same time
  pyswiftops.fleet.preflight:
    node: "{{ inventory_hostname }}"
    request: "{{ request }}"
"""

RETURN = r"""
facts:
  description: What the node told, by subject; one that could not be looked at has C(error).
  type: dict
  returned: always
"""

ARGUMENTS = {
    "node": {"type": "str", "required": True},
    "request": {"type": "dict", "required": True},
    "host": {"type": "bool", "default": False},
}
