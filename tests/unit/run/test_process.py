"""ansible-playbook as the controller's process: beside others, and after the controller's death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import process as process_module
from pyswiftops.errors import RunConflictError
from pyswiftops.paths import RunFolder
from pyswiftops.private import clear_stale, private_folder
from pyswiftops.runner import run_playbook
from pyswiftops.specs.fleet import Fleet
from pyswiftops.store import RunStore

from .test_store import plan

SECONDS = 120.0

# Hooks as filelock registers them (3.30 and later): an audit hook refuses a fork while another
# thread forks. On Python 3.11 filelock leaves its audit hook out, so the script adds that very
# function. The hook that is registered first runs last, so it holds the first fork open, with
# filelock's note of it made, until the second thread forks as well.
FORKS = """
    import os, sys, threading
    from pathlib import Path

    second = threading.Event()
    def hold():
        second.wait(20)
    os.register_at_fork(before=hold)
    from filelock._core import _fork
    forks = []
    def count(event, _arguments):
        if event in ("os.fork", "os.forkpty"):
            forks.append(event)
            if len(forks) == 2:
                second.set()
    sys.addaudithook(count)
    if sys.version_info < (3, 12):
        sys.addaudithook(_fork._audit_fork_safety)

    from pyswiftops.runner import run_playbook
    here = Path(sys.argv[1])
    said = {}
    def one(number):
        try:
            played = run_playbook(
                "execute", here / "fleet.yml", here / f"ansible-{number}",
                {"swiftops_argv_file": str(here / "argv.json")}, forks=2, private=here / "private",
            )
            said[number] = "" if played.ok else str([item.data for item in played.failures])
        except BaseException as problem:
            said[number] = repr(problem)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert said == {0: "", 1: ""}, said
"""

DRIVER = """
    import sys
    from pathlib import Path
    from pyswiftops.paths import RunFolder
    from pyswiftops.runner import run_playbook
    from pyswiftops.store import RunStore

    here = Path(sys.argv[1])
    store = RunStore(RunFolder(here / "runs", "r"))
    with store.driving():
        run_playbook(
            "execute", here / "fleet.yml", here / "ansible",
            {"swiftops_argv_file": str(here / "argv.json"), "hidden": "a-secret"}, forks=2,
            private=store.folder.private,
        )
"""


def fleet(folder: Path, argv: list[str]) -> None:
    """A fleet of two local nodes, and the command that they are asked to run."""
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": str(folder / "nodes"),
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    made = Fleet.from_document(document, folder / "fleet.yml")
    (folder / "fleet.yml").write_text(made.to_yaml(), encoding="utf-8")
    (folder / "argv.json").write_text(json.dumps(argv), encoding="utf-8")


def script(text: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text), str(folder)]


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def sleepers(words: str) -> list[int]:
    """Pids of processes whose command line holds ``words``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.slow
def test_two_stages_start_at_one_instant_beside_filelocks_hooks(tmp_path: Path) -> None:
    fleet(tmp_path, ["true"])
    done = subprocess.run(
        script(FORKS, tmp_path), capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_killed_controller_takes_ansible_and_its_tasks_along(tmp_path: Path) -> None:
    number = f"3600.{os.getpid()}{time.time_ns() % 100000}"
    fleet(tmp_path, ["sleep", number])
    store = RunStore(RunFolder(tmp_path / "runs", "r"))
    store.create(plan())
    controller = subprocess.Popen(script(DRIVER, tmp_path))
    try:
        wait_for(lambda: len(sleepers(f"sleep {number}")) > 1)
        (hidden,) = store.folder.private.glob("*/")
        assert "a-secret" in (hidden / "variables.json").read_text(encoding="utf-8")
        assert hidden.stat().st_mode & 0o777 == 0o700
        with pytest.raises(RunConflictError, match=f"process {controller.pid}"), store.driving():
            pass
    finally:
        controller.send_signal(signal.SIGKILL)
        controller.wait()
    # nobody drives the run any more, and yet all of it ends
    wait_for(lambda: not sleepers(number) and not sleepers(str(tmp_path)))
    with store.driving():
        assert not list(store.folder.private.glob("*/"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_controller_with_its_playbook(
    tmp_path: Path, how: signal.Signals
) -> None:
    """ansible-runner would take both for itself, and Ctrl-C be ignored from then on."""
    number = f"3602.{os.getpid()}{time.time_ns() % 100000}"
    fleet(tmp_path, ["sleep", number])
    RunStore(RunFolder(tmp_path / "runs", "r")).create(plan())
    mine = ["env", "--default-signal=INT,TERM"]  # where these tests run in the background
    controller = subprocess.Popen([*mine, *script(DRIVER, tmp_path)])
    wait_for(lambda: len(sleepers(f"sleep {number}")) > 1)
    controller.send_signal(how)
    assert controller.wait(SECONDS) == -how
    wait_for(lambda: not sleepers(number))


@pytest.mark.slow
def test_a_cancelled_playbook_ends_with_its_tasks(tmp_path: Path) -> None:
    number = f"3601.{os.getpid()}{time.time_ns() % 100000}"
    fleet(tmp_path, ["sleep", number])
    result = run_playbook(
        "execute",
        tmp_path / "fleet.yml",
        tmp_path / "ansible",
        {"swiftops_argv_file": str(tmp_path / "argv.json")},
        forks=2,
        private=tmp_path / "private",
        cancelled=lambda: len(sleepers(f"sleep {number}")) > 1,
    )
    assert not result.ok
    wait_for(lambda: not sleepers(f"sleep {number}"))
    assert not list((tmp_path / "private").glob("*/"))


def test_private_folders_go_with_their_owner(tmp_path: Path) -> None:
    parent = tmp_path / "private"
    with private_folder(parent) as mine:
        stale = parent / "stale"
        stale.mkdir()
        (stale / "variables.json").write_text("{}", encoding="utf-8")
        clear_stale(parent)
        assert mine.is_dir()
        assert not stale.exists()
    assert not mine.exists()


def test_one_that_prints_much_while_it_is_ended_is_not_killed(tmp_path: Path) -> None:
    """It would wait for room in its pipe for ever, and leave its workers behind."""
    script = tmp_path / "loud.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import signal, sys, time
            def told(*_):
                print("x" * 1_000_000, flush=True)
                open({str(tmp_path / "ended")!r}, "w").close()
                sys.exit(3)
            signal.signal(signal.SIGTERM, told)
            print("ready", flush=True)
            time.sleep(60)
            """
        ),
        encoding="utf-8",
    )
    read = bytearray()
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process_module._end(process, read.extend)
        assert process.returncode == 3
    assert (tmp_path / "ended").exists()
    assert len(read) > 900_000
