#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: room
short_description: Say how much room a node has, and what folders take of it
description:
  - Looks at the file system of the node's root, or of the nearest folder above that exists, at the
    node's main memory, and at folders. Changes nothing.
options:
  root:
    description: The node's own directory; it may not exist yet.
    type: path
    required: true
  folders:
    description: Name to folder; one that does not exist takes nothing.
    type: dict
    default: {}
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Room for checkpoints
  pyswiftops.fleet.room:
    root: /data/swiftops/node-1
    folders: {train: /data/swiftops/node-1/runs/demo/train}
"""

RETURN = r"""
filesystem:
  description: Machine and device; equal where two roots lie on one file system.
  type: str
  returned: always
free:
  description: Bytes that the login user may still write.
  type: int
  returned: always
total:
  description: Bytes of the file system.
  type: int
  returned: always
memory:
  description: Bytes of main memory; 0 where it cannot be told.
  type: int
  returned: always
folders:
  description: Name to C(bytes) and C(entries), the bytes of each direct entry.
  type: dict
  returned: always
"""

import os
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

MEMORY = re.compile(r"MemTotal:\s+(\d+) kB")


def bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; a file of several names counts each time."""
    if path.is_symlink():
        return 0
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 a long walk
    return total


def folder(path: Path) -> dict:
    """Bytes of a folder and of its direct entries."""
    entries = {item.name: bytes_of(item) for item in path.iterdir()} if path.is_dir() else {}
    return {"bytes": sum(entries.values()), "entries": entries}


def memory() -> int:
    """Bytes of main memory that processes here may have; 0 where it cannot be told."""
    known = []
    try:
        found = MEMORY.search(Path("/proc/meminfo").read_text(encoding="ascii"))
        known += [int(found.group(1)) * 1024] if found else []
        known.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass  # no such file, or no limit ("max")
    return min(known, default=0)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "folders": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    place = Path(module.params["root"])
    while not place.is_dir():
        place = place.parent
    disk = os.statvfs(place)
    module.exit_json(
        changed=False,
        filesystem=f"{os.uname().nodename}:{place.stat().st_dev}",
        free=disk.f_bavail * disk.f_frsize,
        total=disk.f_blocks * disk.f_frsize,
        memory=memory(),
        folders={name: folder(Path(path)) for name, path in module.params["folders"].items()},
    )


if __name__ == "__main__":
    main()
