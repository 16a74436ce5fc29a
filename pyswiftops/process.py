"""The process of one playbook: started without fork, watched, and ended with its workers."""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ansible_runner.runner import Runner
from ansible_runner.utils import OutputEventFilter

from pyswiftops import guard

LOOK_SECONDS = 0.2
END_SECONDS = 15.0
CANCELLED = 254  # ansible-runner's code
_CHUNK = 65536


def play(runner: Runner, cancelled: Callable[[], bool]) -> int:
    """Run what ``runner`` has prepared, its events going to the runner's handler.

    ``Runner.run`` itself would call ``os.forkpty``. In a process of several threads that is unsafe:
    hooks of other libraries may refuse it while another thread forks (filelock 3.30 does, on
    Python 3.12), and the stage would end before it began. ``subprocess`` runs no such hooks.

    Args:
        runner: From ``ansible_runner.interface.init_runner``.
        cancelled: Asked now and then; True ends the playbook.

    Returns:
        The exit code; 254 if the playbook was ended.
    """
    folder = Path(runner.config.artifact_dir)
    (folder / "job_events").mkdir(mode=0o700, parents=True, exist_ok=True)
    guarded = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid())]
    with (
        (folder / "stdout").open("w", encoding="utf-8") as stdout,
        subprocess.Popen(
            [*guarded, *runner.config.command],
            cwd=runner.config.cwd,
            env=runner.config.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is the controller's to handle
        ) as process,
    ):
        events = OutputEventFilter(stdout, runner.event_callback, suppress_ansible_output=True)
        try:
            ended = _follow(process, events, cancelled)
        finally:
            _end(process, lambda _chunk: None)
        events.close()
    return process.returncode if not ended else CANCELLED


def _follow(
    process: subprocess.Popen[bytes], events: OutputEventFilter, cancelled: Callable[[], bool]
) -> bool:
    """Hand on what the process prints until it is gone; whether it was ended."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    ended = False

    def take(chunk: bytes) -> None:
        events.write(decoder.decode(chunk))

    while True:
        gone = process.poll() is not None  # asked before reading: its last words are read then
        chunk = _read(process, 0 if gone else LOOK_SECONDS)
        take(chunk or b"")
        if chunk == b"" and not gone:
            process.wait()
        if gone and not chunk:
            return ended
        if not ended and cancelled():
            ended = True
            _end(process, take)


def _read(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """What the process has printed; None if nothing within the time, b"" after its last words."""
    assert process.stdout is not None  # noqa: S101 asked for as a pipe
    pipe = process.stdout.fileno()
    ready, _, _ = select.select([pipe], [], [], seconds)
    return os.read(pipe, _CHUNK) if ready else None


def _end(process: subprocess.Popen[bytes], take: Callable[[bytes], None]) -> None:
    """End the process, if it is not gone: Ansible takes its workers along on SIGTERM.

    What it prints meanwhile is read: a process that waits for room in its pipe ends no workers.
    """
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        chunk = _read(process, LOOK_SECONDS / 4)
        if chunk == b"":
            time.sleep(LOOK_SECONDS / 4)
        take(chunk or b"")
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
