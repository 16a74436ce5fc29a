#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon
short_description: Merge settings into Docker's daemon.json, and have the daemon read them
version_added: 0.1.0
description:
  - Keys and list entries that are there stay; those given are added.
  - The daemon is told by SIGHUP, which touches no container. Only settings that it reads anew at
    that signal make sense here, such as C(registry-mirrors) and C(runtimes).
author:
  - The pyswiftops developers
options:
  settings:
    description: What has to be in the file.
    type: dict
    required: true
  path:
    description: The daemon's file.
    type: path
    default: /etc/docker/daemon.json
  pidfile:
    description: Where the daemon's pid stands.
    type: path
    default: /var/run/docker.pid
attributes:
  check_mode:
    description: Changes nothing, says what would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
"""

EXAMPLES = r"""
- name: A mirror for pulls
  pyswiftops.fleet.docker_daemon:
    settings:
      registry-mirrors: [https://mirror.example]
"""

RETURN = r"""
told:
  description: Whether a running daemon was told.
  returned: success
  type: bool
"""

import contextlib
import json
import os
import signal
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DAEMON = "dockerd"


def merged(there: object, given: object) -> object:
    """What is there, with what is given added to it."""
    if isinstance(there, dict) and isinstance(given, dict):
        added = {key: merged(there.get(key), value) for key, value in given.items()}
        return {**there, **added}
    if isinstance(there, list) and isinstance(given, list):
        return [*there, *(item for item in given if item not in there)]
    return given


def tell(pidfile: Path) -> bool:
    """Send SIGHUP to the daemon, if one runs."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pidfile.read_text(encoding="ascii"))
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        if name == DAEMON:  # and no other process that has the pid now
            os.kill(pid, signal.SIGHUP)
            return True
    return False


def write(path: Path, text: str) -> None:
    """Put the text in the file's place at once; its mode stays."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(mode)
    Path(name).replace(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "pidfile": {"type": "path", "default": "/var/run/docker.pid"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        there = json.loads(before or "{}")
    except ValueError as problem:
        module.fail_json(
            msg=f"expected: JSON; found: {problem}; where: {path}; remedy: mend the file by hand"
        )
    wanted = merged(there, module.params["settings"])
    changed = wanted != there
    after = json.dumps(wanted, indent=2, sort_keys=True) + "\n" if changed else before
    told = False
    if changed and not module.check_mode:
        write(path, after)
        told = tell(Path(module.params["pidfile"]))
    module.exit_json(changed=changed, told=told, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
