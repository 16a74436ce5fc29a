# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Start the leader of a job: the one process that the supervisor starts itself.

Linux only, standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from . import imports, isolation, process_tree

_LOG_MODE = 0o644
_NOT_STARTED = 127


class Command(NamedTuple):
    """What to run; `env` is the whole environment."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: Path
    hide: list[str]


class Refusal(NamedTuple):
    """Why the leader could not be started."""

    isolation: bool
    detail: str


class Started(NamedTuple):
    """The leader's pid and how its hidden paths are hidden, or the refusal."""

    pid: int | None
    method: isolation.Method
    refusal: Refusal | None


def environment(request: Mapping[str, object], base: Mapping[str, str]) -> dict[str, str]:
    """Return the leader's environment: the node's file, the base, the request's, and the job's own.

    What comes later wins, so that the file never overrules what the machine or the user sets.
    """
    env = {**env_file(str(request.get("env_file") or "")), **base}
    env.update(_strings(request["env"]))
    env.update(_strings(request["secret_env"]))
    folders = request["path"]
    if isinstance(folders, list) and folders:
        env["PATH"] = ":".join([*folders, env.get("PATH", os.defpath)])
    env["SWIFTOPS_RUN_ID"] = str(request["run_id"])
    env["SWIFTOPS_STAGE"] = str(request["stage"])
    env["SWIFTOPS_NODE"] = str(request["node"])
    env[process_tree.MARKER] = str(request["marker"])
    hook, records = str(request.get("hook") or ""), str(request.get("imports") or "")
    if hook:
        env.update(imports.environment(Path(hook), Path(records), env.get("PYTHONPATH", "")))
    return env


def env_file(path: str) -> dict[str, str]:
    """Return the variables of a file: NAME=value lines, quoted as for a shell; none of no file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines() if path else []
        words = [word for line in lines for word in shlex.split(line, comments=True)]
    except (OSError, ValueError):
        return {}
    parts = [word.partition("=") for word in words]
    return {name: value for name, equals, value in parts if equals}


def _strings(found: object) -> dict[str, str]:
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in found.items()}


def start(command: Command, methods: list[isolation.Method]) -> Started:
    """Start the command with the first way of hiding that this node allows.

    Each way is tried in a process of its own, since none can be undone. Call it before
    the process has threads. The command runs in a session of its own, its output is
    appended to the log, its input is empty, and it dies with the supervisor.
    """
    started = Started(None, isolation.Method.NONE, None)
    for method in methods:
        started = _attempt(command, method)
        if started.refusal is None or not started.refusal.isolation:
            return started
    return started


def _attempt(command: Command, method: isolation.Method) -> Started:
    reader, writer = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become(command, method, supervisor, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    if not said:
        return Started(pid, method, None)
    os.waitpid(pid, 0)
    return Started(None, method, Refusal(**json.loads(said)))


def _become(command: Command, method: isolation.Method, supervisor: int, writer: int) -> NoReturn:
    """Turn this child into the command, or tell the supervisor why not."""
    hiding = True
    try:
        os.setsid()
        isolation.enter(method, command.hide)
        hiding = False
        log = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _LOG_MODE)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.chdir(command.cwd)
        _restore_signals()
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        program = _program(command)
        process_tree.die_with_parent(supervisor)
        os.execve(program, command.argv, command.env)  # noqa: S606 (argv, no shell)
    except BaseException as error:  # noqa: BLE001 (a child that lives on would be a second supervisor)
        refusal = Refusal(isolation=hiding, detail=str(error))
        os.write(writer, json.dumps(refusal._asdict()).encode())
    finally:
        os._exit(_NOT_STARTED)


def _program(command: Command) -> str:
    path = command.env.get("PATH", os.defpath)
    found = shutil.which(command.argv[0], path=path)
    if found is None:
        raise FileNotFoundError(
            f"found no program {command.argv[0]!r} that may be run (cwd {command.cwd}, PATH {path})"
        )
    return found


def _restore_signals() -> None:
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
