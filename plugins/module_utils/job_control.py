# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Start a job on this node under a supervisor that outlives Ansible.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from . import imports, process_tree, progress, short_temp, supervisor
from .job_state import JobFolder, Kind, State, read_json, try_lock, write_json
from .job_stop import end_remains, stop
from .job_view import Answer, JobError, View, Wanted, answer, look, read, supervisor_of, wait

__all__ = ["JobError", "Wanted", "perform", "read", "start", "stop", "wait"]

START_SECONDS = 10.0
_PACKAGE = "swiftops_supervisor"
_SHIPPED = (
    "alerts",
    "hang",
    "hang_report",
    "heartbeat",
    "import_hook",
    "imports",
    "isolation",
    "job_log",
    "job_state",
    "launch",
    "process_tree",
    "progress",
    "shared_memory",
    "supervisor",
    "usage",
    "wire",
)
_MAIN = f"import sys\n\nfrom {_PACKAGE}.supervisor import main\n\nmain(sys.argv[1:])\n"
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|CUDA_HOME|CUDA_PATH"
    r"|(NCCL|NVSHMEM|TORCH_SYMM_MEM)_\w+"  # what a machine sets for its interconnect holds for jobs
)
_NAME = re.compile(r"[^\s/\0]+")
_WATCH = (
    *("hang_steps", "hang_at_least", "hang_startup", "spike", "window", "stop_on_nan"),
    *("output", "save_every", "iterations", "keep"),
)
_LISTS = ("path", "make_directories", "hide", "peers")


class Request(NamedTuple):
    """What a job is; the fields are those of the module `job`."""

    directory: str
    values: dict[str, Any]
    make_directories: list[str]
    files: dict[str, str]
    again: bool

    @property
    def argv(self) -> list[str]:
        """The command."""
        argv: list[str] = self.values["argv"]
        return argv


def request_of(params: Mapping[str, Any]) -> Request:
    """Check the module's parameters and return the request.

    Raises:
        JobError: One of them cannot be; the sentence names it.
    """
    directory = str(params["directory"])
    _absolute("directory", directory)
    if not params["argv"]:
        raise JobError("argv: expected the command as a list of strings, found none")
    for name in ("run_id", "stage", "node"):
        if not _NAME.fullmatch(str(params[name] or "")):
            raise JobError(
                f"{name}: expected a name without blanks and slashes, found {params[name]!r}"
            )
    lists = {name: list(params[name] or []) for name in _LISTS}
    for name in ("path", "make_directories", "hide"):
        for path in lists[name]:
            _absolute(name, path)
    cwd = str(params["cwd"] or directory)
    _absolute("cwd", cwd)
    for hidden in lists["hide"]:
        for needed in (directory, cwd):
            if _is_within(needed, hidden):
                raise JobError(f"hide: {hidden} would hide the job's own {needed}; leave it out")
    _check_words(params)
    _check_numbers(params)
    _check_peers(lists["peers"], str(params["node"]), params["token"])
    values = {
        **{name: params[name] for name in ("argv", "run_id", "stage", "node", "stop_grace")},
        **{name: params[name] for name in ("heartbeat_timeout", "join_timeout", "isolation")},
        **{name: lists[name] for name in ("path", "hide", "peers")},
        "cwd": cwd,
        "env": dict(params["env"] or {}),
        "secret_env": dict(params["secret_env"] or {}),
        "token": params["token"] or "",
        "hang_timeout": params.get("hang_timeout") or 0,
        "progress_file": params.get("progress_file"),
        "env_file": params.get("env_file"),
        "watch": _watch(params),
    }
    files = {str(path): str(text) for path, text in (params["files"] or {}).items()}
    for path in files:
        _absolute("files", path)
    return Request(directory, values, lists["make_directories"], files, bool(params["again"]))


def _watch(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `watch` that are given.

    Raises:
        JobError: One of them is unknown, or no number that can be.
    """
    given = {
        name: value for name, value in (params.get("watch") or {}).items() if value is not None
    }
    for name, value in given.items():
        if name not in _WATCH:
            raise JobError(f"watch: expected {', '.join(_WATCH)}, found {name}")
        if name == "output":
            _absolute("watch.output", str(value))
        elif not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise JobError(f"watch.{name}: expected a number, 0 or more, found {value}")
    return given


def _check_words(params: Mapping[str, Any]) -> None:
    """Words and variables that no process can be given."""
    for word in params["argv"]:
        if "\0" in str(word):
            raise JobError(f"argv: expected words without NUL, found {word!r}")
    for kind in ("env", "secret_env"):
        for name, value in (params[kind] or {}).items():
            if not name or "=" in name or "\0" in f"{name}{value}":
                raise JobError(f"{kind}: expected names without '=' and no NUL, found {name!r}")


def _check_numbers(params: Mapping[str, Any]) -> None:
    for name in ("stop_grace", "heartbeat_timeout", "join_timeout", "hang_timeout", "grace"):
        value = params.get(name)
        if value is not None and not 0 <= value < float("inf"):
            raise JobError(f"{name}: expected seconds, 0 or more, found {value}")


def _absolute(name: str, path: str) -> None:
    if not Path(path).is_absolute():
        raise JobError(f"{name}: expected an absolute path, found {path!r}")


def _is_within(path: str, folder: str) -> bool:
    inner, outer = os.path.realpath(path), os.path.realpath(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _check_peers(peers: list[Mapping[str, Any]], node: str, token: str | None) -> None:
    names = [str(peer["node"]) for peer in peers]
    if len(set(names)) != len(names):
        raise JobError(f"peers: expected every node once, found {', '.join(names)}")
    if names and node not in names:
        raise JobError(f"peers: expected node {node} among them, found {', '.join(names)}")
    if len(names) > 1 and not token:
        raise JobError("token: expected the secret that the peers' supervisors share, found none")


def start(request: Request, wanted: Wanted, *, check: bool = False) -> Answer:
    """Start the job, unless it runs or has succeeded; never wait for it.

    A job that has failed, was stopped or was lost starts anew; what it left moves to
    `attempt-N`, and processes of a lost one are ended first. Of two starts at the same
    instant one wins the lock, and both return the same job.

    Args:
        request: The job.
        wanted: What to tell.
        check: Only tell what would happen.

    Raises:
        JobError: Another job is there, or this one could not be started.
    """
    folder = JobFolder(request.directory)
    if not folder.lock.exists():  # which another start makes before anything else
        _is_a_jobs(folder)
    if check and not folder.path.is_dir():
        return {**answer(folder, View(State.ABSENT, None), wanted), "changed": True}
    _make_folder(folder.path, 0o700)
    deadline = time.monotonic() + START_SECONDS
    while True:
        lock = try_lock(folder.lock)
        if lock is not None:
            break
        view = look(folder)
        if view.recorded is not None and _is_there(folder, view, request):
            return answer(folder, view, wanted)
        _ask_to_leave(view)
        if time.monotonic() > deadline:
            raise JobError(
                f"cannot start the job in {folder.path}: expected the lock {folder.lock} to be "
                f"free or held by a running job, found it held and the job {view.state.value}; "
                f"see who holds it with: fuser -v {folder.lock}"
            )
        time.sleep(process_tree.POLL_SECONDS)
    try:
        _is_a_jobs(folder)
        view = View(*_ended(folder))
        if view.recorded is not None and _is_there(folder, view, request):
            return answer(folder, view, wanted)
        if check:
            return {**answer(folder, view, wanted), "changed": True}
        end_remains(folder, None)
        folder.archive()
        marker = "/".join(str(request.values[name]) for name in ("run_id", "stage", "node"))
        marker += f"/{uuid4().hex}"
        records = {"hook": str(folder.hook), "imports": str(folder.imports)}
        _make_place(request)
        env = {"env": _environment(request)}
        write_json(folder.request, {**request.values, **env, **records, "marker": marker})
        _make_folder(folder.hook, 0o700)
        (folder.hook / imports.HOOK_FILE).write_text(_source("import_hook"), encoding="utf-8")
        folder.program.write_bytes(program())
        process = _spawn(folder, lock)
    finally:
        os.close(lock)
    _wait_first(folder, process, marker)
    told = answer(folder, look(folder), wanted)
    reason = told["reason"] or {}
    if reason.get("kind") == Kind.START_FAILED.value:
        raise JobError(f"cannot start the job in {folder.path}: {reason['detail']}")
    return {**told, "changed": True}


def _is_a_jobs(folder: JobFolder) -> None:
    """Refuse a folder that holds other things: what an earlier attempt left is moved aside.

    Raises:
        JobError: It is not empty, and no job was ever started in it.
    """
    try:
        left = folder.left()
    except OSError as error:
        raise JobError(f"directory: cannot be read: {error}") from error
    if left and not folder.request.exists():
        names = ", ".join(sorted(entry.name for entry in left)[:3])
        raise JobError(
            f"directory: expected an empty folder, or that of a job, found {names} in "
            f"{folder.path}; give the job a folder of its own"
        )


def _make_place(request: Request) -> None:
    """Make the folders and small files that the command expects."""
    for folder in (*request.make_directories, request.values["cwd"]):
        _make_folder(Path(folder), 0o755)
    for name, text in request.files.items():
        _make_folder(Path(name).parent, 0o755)
        Path(name).write_text(text, encoding="utf-8")


def _environment(request: Request) -> dict[str, str]:
    """Return the command's own variables, with a TMPDIR that leaves room for sockets."""
    try:
        return short_temp.shortened(request.values["env"])
    except OSError as error:
        raise JobError(f"TMPDIR of the job in {request.directory}: {error}") from error


def _make_folder(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"cannot make the folder {path}: {error}") from error


def _is_there(folder: JobFolder, view: View, request: Request) -> bool:
    """Tell whether the job that is asked for runs or has succeeded already.

    Raises:
        JobError: The folder holds another job, or the job runs with another command.
    """
    recorded = view.recorded or {}
    for name in ("run_id", "stage", "node"):
        if recorded[name] != request.values[name]:
            raise JobError(
                f"{folder.path} holds the job of {name} {recorded[name]!r}, expected "
                f"{request.values[name]!r}; give each run, stage and node a folder of its own"
            )
    if view.state not in (State.STARTING, State.RUNNING, State.SUCCEEDED):
        return False
    if view.state is State.SUCCEEDED and request.again:
        return False
    if recorded["argv"] != request.argv:
        done = "has succeeded" if view.state is State.SUCCEEDED else "is running"
        raise JobError(
            f"the job in {folder.path} {done} with another command: expected {request.argv}, "
            f"found {recorded['argv']}; start the new command under a run id of its own, or "
            f"stop this job and remove {folder.path}"
        )
    return view.state is not State.STARTING


def _ask_to_leave(view: View) -> None:
    """Make the supervisor of a job that has ended leave; it stays to tell other nodes."""
    if view.recorded is not None and view.state in (State.FAILED, State.STOPPED):
        lingering = supervisor_of(view.recorded)
        if lingering is not None:
            process_tree.send(lingering, signal.SIGTERM)


def _ended(folder: JobFolder) -> tuple[State, dict[str, Any] | None]:
    """Return the job's state while the caller holds the lock: nobody supervises it."""
    recorded = folder.read_state()
    if recorded is None:
        return State.ABSENT, None
    state = State(recorded["state"])
    return (state if state.terminal else State.LOST), recorded


def program() -> bytes:
    """Return the supervisor as one file that Python runs: `supervisor.pyz`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr(f"{_PACKAGE}/__init__.py", "")
        for name in _SHIPPED:
            archive.writestr(f"{_PACKAGE}/{name}.py", _source(name))
    return buffer.getvalue()


def _source(name: str) -> str:
    full = f"{supervisor.__name__.rpartition('.')[0]}.{name}"
    spec = importlib.util.find_spec(full)
    text = None
    if spec is not None and spec.loader is not None and hasattr(spec.loader, "get_source"):
        text = spec.loader.get_source(full)
    if text is None:
        raise JobError(f"the supervisor's source {name}.py is not with this module; reinstall it")
    return str(text)


def _spawn(folder: JobFolder, lock: int) -> subprocess.Popen[bytes]:
    """Start the supervisor detached: own session, own files, only the lock inherited."""
    env = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    with folder.supervisor_log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", str(folder.program), str(folder.path), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.path,
            env=env,
            pass_fds=[lock],
            start_new_session=True,
        )


def _wait_first(folder: JobFolder, process: subprocess.Popen[bytes], marker: str) -> None:
    """Wait for the supervisor's first word on the leader.

    Raises:
        JobError: It ended without one.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        recorded = folder.read_state()
        if recorded is not None and recorded["marker"] == marker:
            if recorded["state"] != State.STARTING.value:
                return
        elif ended:
            said = folder.supervisor_log.read_text(encoding="utf-8", errors="replace").strip()
            raise JobError(
                f"cannot start the job in {folder.path}: its supervisor ended with code "
                f"{process.returncode}: {said.splitlines()[-1] if said else 'it said nothing'}; "
                f"see {folder.supervisor_log}"
            )
        time.sleep(process_tree.POLL_SECONDS / 5)


def perform(params: Mapping[str, Any], *, check: bool = False) -> Answer:
    """Do what the module's parameters ask for; the module `job` calls nothing else.

    Raises:
        JobError: It cannot be done.
    """
    directory = str(params["directory"])
    _absolute("directory", directory)
    for name in ("tail", "log_from", "log_since", "wait"):
        if not 0 <= (params.get(name) or 0) < float("inf"):
            raise JobError(f"{name}: expected 0 or more, found {params[name]}")
    log_from, log_since = params.get("log_from"), params.get("log_since")
    wanted = Wanted(int(params["tail"]), params["progress_file"], log_from, log_since)
    if params["state"] == "started":
        return start(request_of(params), wanted, check=check)
    if params["state"] == "stopped":
        return _with_records(stop(directory, params["grace"], wanted, check=check), wanted)
    if params["state"] == "finished":
        told = wait(directory, float(params["wait"]), params["since_step"], wanted)
        return _with_records(told, wanted)
    return read(directory, wanted)


def _with_records(told: Answer, wanted: Wanted) -> Answer:
    """Add what an ended job's processes imported, and the loss of its steps."""
    if told["state"] not in {state.value for state in State if state.terminal}:
        return told
    curve = progress.curve(wanted.progress_file) if wanted.progress_file else None
    return {
        **told,
        "imports": imports.summary(JobFolder(told["directory"]).imports),
        "curve": curve or None,
        "hang": _hang_report(JobFolder(told["directory"])),
    }


def _hang_report(folder: JobFolder) -> Any:
    """What the supervisor noted of a job that hung, on this node or on another."""
    try:
        return read_json(folder.hang)
    except (OSError, ValueError):
        return None
