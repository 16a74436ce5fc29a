"""Runs before ansible-playbook in its process: ties it to the controller that started it.

``python guard.py PARENT COMMAND...`` becomes COMMAND, which then gets SIGTERM when the controller
dies, however it dies; Ansible ends its workers with it. What that leaves undone,
:mod:`pyswiftops.leftovers` does before the run goes on.

A file of its own that imports nothing of the package: it costs every playbook its start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main(words: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    parent, *command = words
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):  # it died before this process could hear of it
        raise ProcessLookupError(f"the controller {parent} is gone")
    os.execvp(command[0], command)  # noqa: S606 no shell: argv as it is


if __name__ == "__main__":
    main(sys.argv[1:])
