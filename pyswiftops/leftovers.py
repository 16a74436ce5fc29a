"""Processes of ansible-playbook that outlived the controller or a cancelled stage.

ansible-core puts each worker into a session of its own, and a worker whose main process is gone
waits for it for ever. So every ansible-playbook carries its run in its environment, and whoever
drives the run ends what carries it before anything new is started. Jobs do not carry it: they
are the nodes' and go on.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

OWNER = "SWIFTOPS_CONTROLLER"
PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.05


def carrying(owner: str) -> list[int]:
    """Pids of living processes of this user whose environment names ``owner``."""
    wanted = f"{OWNER}={owner}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if wanted in words:
            found.append(int(entry.name))
    return found


def end(owner: str) -> list[int]:
    """Kill what carries ``owner``, and wait until nothing does.

    Args:
        owner: What :func:`pyswiftops.runner.run_playbook` was given.

    Returns:
        The pids that were killed.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while living := carrying(owner):
        for pid in living:
            try:
                process = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in carrying(owner):  # still that process, now that the pidfd holds it
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    killed.add(pid)
            except ProcessLookupError:
                continue
            finally:
                os.close(process)
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_SECONDS)
    return sorted(killed)
