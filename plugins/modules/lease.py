#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: lease
short_description: Find free TCP ports on this node
version_added: 0.1.0
description:
  - Returns ports that are free on this node now, each proven by binding it on O(address) and on
    all addresses.
  - Nodes on one machine look in disjoint slices of the range, chosen by O(slot), so that they
    never find the same port.
  - Changes nothing and keeps nothing. Start what uses the ports soon.
author:
  - The pyswiftops developers
options:
  count:
    description: How many ports.
    type: int
    default: 1
  address:
    description: The address of this node at which the ports will be used.
    type: str
    default: 127.0.0.1
  start:
    description: The first port of the range; the default range lies below the ephemeral ports.
    type: int
    default: 20000
  end:
    description: The last port of the range.
    type: int
    default: 29999
  slot:
    description: Which slice of the range this node takes; its rank, counted from 0.
    type: int
    default: 0
  slots:
    description: How many slices the range has; the same on all nodes.
    type: int
    default: 100
  key:
    description: Where in the slice to begin, for example the run id; the start if empty.
    type: str
    default: ""
    no_log: false
attributes:
  check_mode:
    description: The module reads only, so that check mode gives the same answer.
    support: full
"""

EXAMPLES = r"""
- name: Lease the port at which the ranks meet
  pyswiftops.fleet.lease:
    address: "{{ training_address }}"
    slot: "{{ node_rank }}"
    key: "{{ run_id }}"
  register: lease
"""

RETURN = r"""
ports:
  description: The free ports.
  returned: always
  type: list
  elements: int
  sample: [20100]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import ports


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "count": {"type": "int", "default": 1},
            "address": {"type": "str", "default": "127.0.0.1"},
            "start": {"type": "int", "default": 20000},
            "end": {"type": "int", "default": 29999},
            "slot": {"type": "int", "default": 0},
            "slots": {"type": "int", "default": 100},
            "key": {"type": "str", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        where = ports.Range(params["start"], params["end"], params["slots"]).slice(params["slot"])
        found = ports.lease(params["count"], params["address"], where, params["key"])
    except ports.PortError as error:
        module.fail_json(msg=f"pyswiftops.fleet.lease: {error}")
    module.exit_json(changed=False, ports=found)


if __name__ == "__main__":
    main()
