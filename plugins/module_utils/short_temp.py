# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A short name for a job's long TMPDIR.

multiprocessing makes sockets below TMPDIR, about 32 bytes deeper, and the kernel takes no socket
path of more than 107 bytes: what is left of a longer one is a bare EOFError of the data loaders.
Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

TMPDIR = "TMPDIR"
MOST_BYTES = 64
PARENT = "/tmp"  # noqa: S108 (the link's owner and target are checked)


def shortened(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with a TMPDIR that leaves room for sockets below it.

    A TMPDIR that is too long is reached through a symbolic link of this user's in `/tmp`, whose
    name follows from it, so that the next job finds the same one.

    Raises:
        OSError: The link cannot be made, or somebody else's is there.
    """
    found = dict(env)
    target = found.get(TMPDIR, "")
    if len(os.fsencode(target)) <= MOST_BYTES:
        return found
    tag = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    link = Path(PARENT, f"swiftops-{os.getuid()}-{tag}")
    try:
        link.symlink_to(target)
    except FileExistsError:
        held = link.lstat()
        if held.st_uid != os.getuid() or not link.is_symlink() or str(link.readlink()) != target:
            raise OSError(
                f"{link}: expected a link to {target}, found something else; remove it"
            ) from None
    found[TMPDIR] = str(link)
    return found
