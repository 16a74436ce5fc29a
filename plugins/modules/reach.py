#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: reach
short_description: Prove that a node logs in to other nodes
version_added: 0.1.0
description:
  - Runs C(ssh NODE true) for each peer, many at once, without asking anybody anything.
  - Fails with the names of the pairs that do not work, and what ssh said.
author:
  - The pyswiftops developers
options:
  peers:
    description: Names of the other nodes, as the user's ssh_config knows them.
    type: list
    elements: str
    required: true
  config:
    description: Another file than the user's for C(ssh -F).
    type: path
  seconds:
    description: How long one login may take.
    type: int
    default: 30
  at_once:
    description: Logins at the same time.
    type: int
    default: 32
attributes:
  check_mode:
    description: Does nothing.
    support: full
"""

EXAMPLES = r"""
- name: From each node to every other
  pyswiftops.fleet.reach:
    peers: "{{ groups['swiftops_nodes'] | difference([inventory_hostname]) }}"
"""

RETURN = r"""
reached:
  description: Peers that took the login.
  returned: always
  type: list
  elements: str
failed_peers:
  description: Peer to what ssh said.
  returned: always
  type: dict
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule


def login(peer: str, config: str | None, seconds: int) -> str:
    """Log in; return what was wrong, or nothing."""
    argv = ["ssh", "-n", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}"]
    argv += ["-F", config] if config else []
    try:
        done = subprocess.run(
            [*argv, "--", peer, "true"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds + 5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return (said[-1] if said else f"exit code {done.returncode}") if done.returncode else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "peers": {"type": "list", "elements": "str", "required": True},
            "config": {"type": "path"},
            "seconds": {"type": "int", "default": 30},
            "at_once": {"type": "int", "default": 32},
        },
        supports_check_mode=True,
    )
    given = module.params
    peers = [] if module.check_mode else given["peers"]
    with ThreadPoolExecutor(max(1, given["at_once"])) as pool:
        said = list(pool.map(lambda peer: login(peer, given["config"], given["seconds"]), peers))
    wrong = {peer: said[number] for number, peer in enumerate(peers) if said[number]}
    answer = {"reached": [peer for peer in peers if peer not in wrong], "failed_peers": wrong}
    if wrong:
        here = os.uname().nodename
        found = "; ".join(f"{here} -> {peer}: {text}" for peer, text in wrong.items())
        module.fail_json(
            msg=f"expected: a login from {here} to each of {len(peers)} peers; found: {found}; "
            f"where: {here}; remedy: ansible-playbook pyswiftops.fleet.settings, then "
            f"ssh -v {next(iter(wrong))} on {here}",
            **answer,
        )
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
