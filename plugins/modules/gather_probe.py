#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: gather_probe
short_description: Say how fast a gather to this node would be
version_added: 0.1.0
description:
  - Brings the beginning of the largest file of each source, all at once and as the gather itself
    would, and throws it away. Changes nothing.
author:
  - The pyswiftops developers
options:
  request:
    description: What would be gathered, as the filter C(gather_request) makes it.
    type: dict
    required: true
  amount:
    description: Bytes of each source at most.
    type: int
    default: 33554432
attributes:
  check_mode:
    description: The module changes nothing, so that check mode gives the same answer.
    support: full
"""

EXAMPLES = r"""
- name: How fast it would be
  pyswiftops.fleet.gather_probe:
    request: "{{ gather_request }}"
  register: probe
"""

RETURN = r"""
bytes:
  description: What was brought.
  returned: success
  type: int
seconds:
  description: How long it took, connections not counted.
  returned: success
  type: float
by_node:
  description: Source to the bytes that it gave.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import gather
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.errors import GatherError
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.request import Request


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "request": {"type": "dict", "required": True},
            "amount": {"type": "int", "default": 33554432},
        },
        supports_check_mode=True,
    )
    try:
        asked = Request.from_dict(module.params["request"])
        answer = gather.probe(asked, module.params["amount"])
    except (GatherError, OSError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.gather_probe: {error}")
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
