#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: docker_save
short_description: Write an image into a compressed archive
version_added: 0.1.0
description:
  - With pigz where it is there, on all cores, else with gzip; C(docker load) reads both.
author:
  - The pyswiftops developers
options:
  image:
    description: The image's name and tag.
    type: str
    required: true
  path:
    description: The archive, which only its owner may read.
    type: path
    required: true
attributes:
  check_mode:
    description: Writes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Pack an image for other hosts
  pyswiftops.fleet.docker_save:
    image: swiftops/lab:0123456789abcdef
    path: /var/tmp/image.tar.gz
"""

RETURN = r"""
size:
  description: Bytes of the archive.
  returned: when not in check mode
  type: int
"""

import os
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def save(image: str, path: Path) -> str:
    """Write the archive; return why that failed, or ""."""
    compressor = "pigz" if shutil.which("pigz") else "gzip"
    with (
        open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
        subprocess.Popen(
            ["docker", "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as source,
    ):
        done = subprocess.run(
            [compressor, "-1"],
            stdin=source.stdout,
            stdout=file,
            check=False,
            stderr=subprocess.PIPE,
        )
        said = source.stderr.read() + done.stderr
    failed = source.returncode or done.returncode
    return said.decode("utf-8", "replace").strip() or "docker save failed" if failed else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    path = Path(module.params["path"])
    problem = save(module.params["image"], path)
    if problem:
        path.unlink()
        module.fail_json(msg=problem)
    module.exit_json(changed=True, size=path.stat().st_size)


if __name__ == "__main__":
    main()
