#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: docker_load
short_description: Load an image that docker save has written, and name it
version_added: 0.1.0
description:
  - Takes archives as they are, or compressed in a way that Docker knows, or with zstd.
author:
  - The pyswiftops developers
options:
  path:
    description: The archive, on the host.
    type: path
    required: true
  tag:
    description: Name and tag that the image has at the end.
    type: str
    required: true
attributes:
  check_mode:
    description: Loads nothing.
    support: full
"""

EXAMPLES = r"""
- name: Load an image
  pyswiftops.fleet.docker_load:
    path: /var/tmp/image.tar.zst
    tag: swiftops/lab:0123456789abcdef
"""

RETURN = r"""
loaded:
  description: What the archive called it.
  returned: when not in check mode
  type: str
"""

import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

ZSTD = b"\x28\xb5\x2f\xfd"
LOADED = re.compile(r"^Loaded image(?: ID)?: (\S+)$", re.MULTILINE)


class LoadError(Exception):
    """The archive cannot be loaded."""


def load(path: Path) -> str:
    """Load an archive; return the name or id of its image."""
    with path.open("rb") as file:
        compressed = file.read(len(ZSTD)) == ZSTD
    reader = ["zstd", "--decompress", "--stdout", str(path)] if compressed else ["cat", str(path)]
    with subprocess.Popen(reader, stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            ["docker", "load"], stdin=source.stdout, check=False, capture_output=True, text=True
        )
    found = LOADED.findall(done.stdout)
    if done.returncode or source.returncode or len(found) != 1:
        raise LoadError(
            f"expected: an archive of docker save with one image; "
            f"found: {done.stderr.strip() or ', '.join(found) or 'none'}; where: {path}; "
            "remedy: docker save IMAGE > archive"
        )
    return found[0]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "tag": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        loaded = load(Path(module.params["path"]))
        subprocess.run(
            ["docker", "image", "tag", loaded, module.params["tag"]],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as problem:
        module.fail_json(msg=f"expected: {problem.filename}; found: none; remedy: install it")
    except LoadError as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(changed=True, loaded=loaded)


if __name__ == "__main__":
    main()
