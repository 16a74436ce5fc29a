"""A node that does not answer for a while during a job: the stage waits for it and goes on."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.paths import NodePaths
from pyswiftops.runner import PlaybookResult, run_playbook
from pyswiftops.specs.fleet import Fleet
from pyswiftops.stages.command import Command

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]

SECONDS = 120.0


class Sshd:
    """A throwaway sshd on the loopback address, which can be taken away and brought back."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            pytest.fail("expected sshd; install it: apt-get install openssh-server")
        self.folder, self._program = folder, found
        for name in ("host", "user"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(key, check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )
        public = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}\n")
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a group of its own, and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            argv = [self._program, "-D", "-e", "-f", str(self.folder / "config")]
            self._daemon = subprocess.Popen(argv, stderr=log)
        wait_for(lambda: b"listening" in (self.folder / "log").read_bytes())

    def stop(self) -> None:
        """End it with all its sessions' servers, so that open connections break as well."""
        if self._daemon is None:
            return
        servers = below(self._daemon.pid)
        self._daemon.kill()
        self._daemon.wait()
        for pid in servers:
            if b"sshd" in command_line(pid):  # jobs and modules stay, as on a node that is cut off
                os.kill(pid, signal.SIGKILL)
        self._daemon = None


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def below(pid: int) -> list[int]:
    """Pids of a process's descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [
        each for child in children for each in below(int(child))
    ]


def wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))  # short: ssh's control socket lies there
    server = Sshd(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)  # ssh removes its socket at the same time


def test_the_stage_goes_on_when_the_node_answers_again(sshd: Sshd, tmp_path: Path) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "host",
        "device": "cpu",
        "root": str(tmp_path / "root"),
        "python": sys.executable,
        "ssh": {
            "port": sshd.port,
            "user": getpass.getuser(),
            "private_key": str(sshd.folder / "user"),
            "options": {
                "UserKnownHostsFile": str(sshd.folder / "known"),
                "ControlPath": str(sshd.folder / "control"),
            },
        },
        "nodes": [{"name": "node-1", "address": "127.0.0.1"}],
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    (tmp_path / "fleet.yml").write_text(fleet.to_yaml(), encoding="utf-8")
    go_on = tmp_path / "go-on"
    wait = f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.05)"
    command = Command("convert", "node-1", (sys.executable, "-c", wait), {}, (), str(tmp_path))
    plan = {
        "run": {"resume": None},
        "jobs": {"train": {"node-1": {**command.to_dict(), "job": "train"}}},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    state = Path(NodePaths(fleet.node_root(fleet.nodes[0]), "r").job("train")) / "state.json"
    looks: list[str] = []
    results: list[PlaybookResult] = []

    def stage() -> None:
        results.append(
            run_playbook(
                "stages.train",
                tmp_path / "fleet.yml",
                tmp_path / "ansible",
                {
                    "swiftops_run_id": "r",
                    "swiftops_plan_file": str(tmp_path / "plan.json"),
                    "stage_job_poll": 1,
                    "ansible_python_interpreter": sys.executable,
                },
                forks=1,
                on_result=lambda result: looks.append(result.task),
            )
        )

    thread = threading.Thread(target=stage)
    thread.start()
    try:
        wait_for(lambda: results or [task for task in looks if task.startswith("Wait for")])
        assert not results, [item.data for item in results[0].failures]
        sshd.stop()
        refused = 0
        while refused < 3:
            with socket.socket() as probe:
                refused += probe.connect_ex(("127.0.0.1", sshd.port)) != 0
            time.sleep(1)
        assert thread.is_alive()
        assert json.loads(state.read_text(encoding="utf-8"))["state"] == "running"
        sshd.start()
        before = len(looks)
        wait_for(lambda: len(looks) > before)
    finally:
        go_on.touch()
        thread.join(SECONDS)
    (result,) = results
    assert result.ok, [item.data for item in result.failures]
    assert result.data("job")["node-1"]["state"] == "succeeded"
