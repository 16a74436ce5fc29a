#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: network_facts
short_description: Tell what a node knows of its network
version_added: 0.1.0
description:
  - Tells interfaces, routes to peers, RDMA devices, external plugins of NCCL and whether GPUDirect
    can be, as plain data. Changes nothing, and sends nothing.
  - The module M(pyswiftops.fleet.converge) tells the same with O(converge#module:network_peers),
    in the execution that it needs anyway.
author:
  - The pyswiftops developers
options:
  peers:
    description: Addresses or names of the fleet's nodes on the training network.
    type: list
    elements: str
    default: []
  topology:
    description: Also ask C(nvidia-smi topo -m), which takes about a second.
    type: bool
    default: false
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
"""

EXAMPLES = r"""
- name: The network of every node
  pyswiftops.fleet.network_facts:
    peers: ["10.0.0.1", "10.0.0.2"]
  register: told
"""

RETURN = r"""
network:
  description:
    - C(interfaces), C(routes), C(hcas), C(plugins), C(gpudirect), C(preset) and C(topology);
      C(plugins/module_utils/network_facts.py) describes them.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import network_facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "peers": {"type": "list", "elements": "str", "default": []},
            "topology": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    found = network_facts.gather(module.params["peers"], topology=module.params["topology"])
    module.exit_json(changed=False, network=found)


if __name__ == "__main__":
    main()
