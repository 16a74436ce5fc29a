#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: converge
short_description: Bring files and settings of a node to what they must be, in one execution
version_added: 0.1.0
description:
  - Reads content, mode and owner of every resource on the node, and changes what differs.
  - Then runs the reactions whose resources changed, and looks at what must be in effect.
  - A file gets its content by a rename, after its validator has taken it. Nothing is written
    through a symbolic link; a folder where a file should be is refused, and the other way round.
  - It is an action plugin. The request travels on the standard input of one ssh execution,
    so that nothing of it stands in a process list. Needs Python 3.9 on the node, nothing else.
  - Reactions that an execution which was cut off did not come to are run by the next one.
author:
  - The pyswiftops developers
options:
  parts:
    description: Requests of several roles in one. Each may have C(needs), C(resources),
      C(reactions) and C(checks), which come after those that are given beside them.
    type: list
    elements: dict
    default: []
  needs:
    description: Where a program is to listen; looked at before anything changes. The address must
      be the node's, and the port free or the program's own.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Its name in the answer.
        type: str
        required: true
      address:
        description: An IP address.
        type: str
        required: true
      port:
        description: A TCP port.
        type: int
        required: true
      program:
        description: Name of the process that may listen there already.
        type: str
        required: true
      remedy:
        description: What a user can do.
        type: str
        required: true
  resources:
    description: What must be on the node, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Its name in answers, and for O(reactions[].after).
        type: str
        required: true
      type:
        description:
          - V(directory), V(file), or V(absent).
          - V(lines) keeps lines of ours in a file of somebody else's.
          - V(no_lines) takes lines of ours away again, and the file where it holds nothing else.
          - V(sysctl) sets kernel settings (O(resources[].values)) now and, by the file
            O(resources[].path), at the next start. What was before is kept in
            O(resources[].before), and comes back where a setting is no longer asked for. A setting
            that cannot be set here is a warning.
          - V(packages) installs packages of the distribution (O(resources[].lines)) that are not
            there, by apt-get; it takes none away.
          - V(password) is the crypted password (O(resources[].content)) of the login
            O(resources[].owner).
        type: str
        choices: [directory, file, lines, no_lines, absent, sysctl, packages, password]
        required: true
      path:
        description: Absolute, or beginning with C(~) or C(~login). Not for V(password) and
          V(packages).
        type: str
      content:
        description: All of a file's text.
        type: str
      src:
        description: A file on the controller that holds O(resources[].content).
        type: str
      lines:
        description: Lines of ours, or names of packages.
        type: list
        elements: str
      values:
        description: Kernel setting to value, as C(net.core.somaxconn).
        type: dict
      before:
        description: A file that keeps what kernel settings were before.
        type: str
      if_folder:
        description: Do nothing where the folder that O(resources[].path) lies in is not there.
        type: bool
        default: false
      position:
        description: Where lines go that are not there. V(top) also keeps them at the top.
        type: str
        choices: [top, bottom]
        default: bottom
      owner:
        description: Left as it is where not given.
        type: str
      group:
        description: Left as it is where not given.
        type: str
      mode:
        description: In octal. Where not given left as it is; of a new file 0644, of a new
          folder 0755.
        type: str
      only_new:
        description: Owner, group and mode are for what is made, and not for what is there.
        type: bool
        default: false
      validate:
        description: A program with its arguments that must take the new file, named C(%s).
        type: list
        elements: str
      backup:
        description: Keep what was there before as one file with the ending C(.before).
        type: bool
        default: false
      sensitive:
        description: Show neither a difference nor what the validator says.
        type: bool
        default: false
      memory_only:
        description: Refuse a path on a disk.
        type: bool
        default: false
  reactions:
    description: What to do when resources changed. Either O(reactions[].argv) or a signal.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Its name in answers.
        type: str
        required: true
      after:
        description: Ids of the resources that it follows.
        type: list
        elements: str
        required: true
      argv:
        description: A program with its arguments.
        type: list
        elements: str
      signal:
        description: A signal's name without SIG, for O(reactions[].program).
        type: str
      program:
        description: Name of the process that gets the signal.
        type: str
      ports:
        description: It listens on one of these ports.
        type: list
        elements: int
      pidfile:
        description: Names the process where none listens.
        type: str
      remedy:
        description: What a user can do when it fails.
        type: str
        required: true
  checks:
    description: What must be in effect, looked at every time, after the reactions.
      Either O(checks[].argv) or O(checks[].port). In check mode only where nothing would change.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Its name in the answer.
        type: str
        required: true
      argv:
        description: A program with its arguments that must end with 0.
        type: list
        elements: str
      output:
        description: Lines that it must print; a list stands for any of its lines.
        type: list
        elements: raw
      port:
        description: A port that must be listened on.
        type: int
      address:
        description: At this address, or at all.
        type: str
        default: 0.0.0.0
      program:
        description: Name of the process that listens there.
        type: str
      seconds:
        description: How long to wait for it.
        type: int
        default: 10
      remedy:
        description: What a user can do.
        type: str
        required: true
  pending:
    description: A file on the node that names reactions which are due, while they are.
    type: str
  network_peers:
    description: Addresses of nodes; where given, also tell what M(pyswiftops.fleet.network_facts)
      tells, in the same execution.
    type: list
    elements: str
attributes:
  check_mode:
    description: Says what would change. Validators look at new content outside of its folder.
    support: full
  diff_mode:
    description: Shows content, mode and owner; nothing of what is sensitive.
    support: full
"""

EXAMPLES = r"""
- name: A port of sshd
  pyswiftops.fleet.converge:
    resources:
      - id: config
        type: file
        path: /etc/swiftops/sshd_config
        content: "Port 2333\nHostKey /etc/swiftops/ssh_host_ed25519_key\n"
        mode: "0600"
        validate: [/usr/sbin/sshd, -t, -f, "%s"]
        backup: true
    reactions:
      - id: reload
        after: [config]
        signal: HUP
        program: sshd
        ports: [22, 2333]
        remedy: "restart the container"
    checks:
      - id: listens
        port: 2333
        remedy: "look at the log of sshd"
"""

RETURN = r"""
resources:
  description: For each its C(id), C(path), C(changed) and C(reason).
  returned: always
  type: list
  elements: dict
applied:
  description: Ids of what was changed, also where a later one failed.
  returned: always
  type: list
  elements: str
reactions:
  description: Those that ran, with C(id) and C(did).
  returned: always
  type: list
  elements: dict
network:
  description: As M(pyswiftops.fleet.network_facts) returns it.
  returned: where O(network_peers) is given
  type: dict
"""

NEED = {
    "id": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "program": {"type": "str", "required": True},
    "remedy": {"type": "str", "required": True},
}
RESOURCE = {
    "id": {"type": "str", "required": True},
    "type": {
        "type": "str",
        "choices": [
            "directory",
            "file",
            "lines",
            "no_lines",
            "absent",
            "sysctl",
            "packages",
            "password",
        ],
        "required": True,
    },
    "path": {"type": "str"},
    "content": {"type": "str"},
    "src": {"type": "str"},
    "lines": {"type": "list", "elements": "str"},
    "values": {"type": "dict"},
    "before": {"type": "str"},
    "if_folder": {"type": "bool", "default": False},
    "position": {"type": "str", "choices": ["top", "bottom"], "default": "bottom"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
    "only_new": {"type": "bool", "default": False},
    "validate": {"type": "list", "elements": "str"},
    "backup": {"type": "bool", "default": False},
    "sensitive": {"type": "bool", "default": False},
    "memory_only": {"type": "bool", "default": False},
}
REACTION = {
    "id": {"type": "str", "required": True},
    "after": {"type": "list", "elements": "str", "required": True},
    "argv": {"type": "list", "elements": "str"},
    "signal": {"type": "str"},
    "program": {"type": "str"},
    "ports": {"type": "list", "elements": "int"},
    "pidfile": {"type": "str"},
    "remedy": {"type": "str", "required": True},
}
CHECK = {
    "id": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str"},
    "output": {"type": "list", "elements": "raw"},
    "port": {"type": "int"},
    "address": {"type": "str", "default": "0.0.0.0"},  # noqa: S104 compared, not bound
    "program": {"type": "str"},
    "seconds": {"type": "int", "default": 10},
    "remedy": {"type": "str", "required": True},
}
ARGUMENTS = {
    "parts": {"type": "list", "elements": "dict", "default": []},
    "needs": {"type": "list", "elements": "dict", "default": [], "options": NEED},
    "resources": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": RESOURCE,
        "mutually_exclusive": [["content", "src"]],
        "required_if": [
            *(["type", kind, ["lines"]] for kind in ("lines", "no_lines", "packages")),
            ["type", "sysctl", ["values", "before"]],
            ["type", "password", ["owner", "content"]],
        ],
    },
    "reactions": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": REACTION,
        "required_one_of": [["argv", "signal"]],
        "required_by": {"signal": ["program"]},
    },
    "checks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": CHECK,
        "required_one_of": [["argv", "port"]],
    },
    "pending": {"type": "str"},
    "network_peers": {"type": "list", "elements": "str"},
}
