#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: docker_builder
short_description: Find a docker client that can build with BuildKit
version_added: 0.1.0
description:
  - A client before release 23 has BuildKit built in; a later one needs the plugin buildx. Where
    several clients are on the host's PATH, the first that can is taken.
  - Changes nothing.
author:
  - The pyswiftops developers
attributes:
  check_mode:
    description: Looks all the same.
    support: full
"""

EXAMPLES = r"""
- name: Which docker client can build
  pyswiftops.fleet.docker_builder:
  register: builder
"""

RETURN = r"""
client:
  description: Path of the client.
  returned: success
  type: str
"""

import os
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

BUILT_IN_BEFORE = 23


def said(argv: list[str]) -> str:
    """What a program printed, or "" where it failed."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def can_build(client: str) -> bool:
    """Whether a client builds with BuildKit."""
    release = said([client, "version", "--format", "{{.Client.Version}}"]).partition(".")[0]
    if release.isdigit() and int(release) < BUILT_IN_BEFORE:
        return True
    return bool(said([client, "buildx", "version"]))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    clients = [str(Path(folder, "docker")) for folder in folders]
    clients = [path for path in clients if os.access(path, os.X_OK)]
    for client in clients:
        if can_build(client):
            module.exit_json(changed=False, client=client)
    module.fail_json(
        msg="expected: a docker client that builds with BuildKit; "
        f"found: {', '.join(clients) or 'no client'} without it; where: PATH of this host; "
        "remedy: apt install docker-buildx (or docker-buildx-plugin)"
    )


if __name__ == "__main__":
    main()
