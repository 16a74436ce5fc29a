"""The module inside a real ansible-playbook: it ships its supervisor and lets go of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_utils import ports, process_tree

if TYPE_CHECKING:
    from conftest import Node

TOKEN = "a-secret-of-this-run"  # noqa: S105 (a test's)

# Rank 0 lets the others go once all have arrived; nobody ends before.
RENDEZVOUS = """
import os, socket, time
rank, world, port = (int(os.environ[name]) for name in ("RANK", "WORLD", "MEET"))
if rank == 0:
    server = socket.create_server(("127.0.0.1", port), backlog=world)
    arrived = [server.accept()[0] for _ in range(world - 1)]
    for one in arrived:
        one.sendall(b"go")
else:
    while True:
        try:
            one = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    assert one.recv(2) == b"go"
print("met")
"""


def playbook(folder: Path, nodes: list[Node], tasks: list[dict[str, Any]]) -> list[str]:
    """Write a playbook over local hosts; return the command that runs it."""
    hosts = {
        node.name: {"directory": str(node.directory), "rank": rank}
        for rank, node in enumerate(nodes)
    }
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    play = folder / "play.json"
    play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    tool = str(Path(sys.executable).parent / "ansible-playbook")
    return [tool, "-i", str(inventory), str(play)]


def environment(folder: Path, collections: Path) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    given["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    given["ANSIBLE_HOME"] = str(folder / "ansible")
    return given


def start_task(argv: list[str], **params: Any) -> dict[str, Any]:
    who = {"run_id": "r1", "stage": "train", "node": "{{ inventory_hostname }}"}
    job = {"directory": "{{ directory }}", "argv": argv, "stop_grace": 1, **who, **params}
    return {"name": "Start", "pyswiftops.fleet.job": job, "register": "started"}


@pytest.mark.slow
def test_eight_nodes_meet_with_ansibles_five_forks(
    make_node: Callable[[str], Node], tmp_path: Path, collections: Path
) -> None:
    """Starting never waits, so that the sixth node starts although the first five meet it."""
    nodes = [make_node(f"n{rank}") for rank in range(8)]
    meet, hub = ports.lease(2, "127.0.0.1", range(22000, 23000), key="eight nodes")
    peers = [{"node": node.name, "host": "127.0.0.1", "port": hub} for node in nodes]
    env = {"RANK": "{{ rank }}", "WORLD": "8", "MEET": str(meet)}
    start = start_task(
        [sys.executable, "-c", RENDEZVOUS], env=env, peers=peers, token=TOKEN, join_timeout=60
    )
    done = subprocess.run(
        playbook(tmp_path, nodes, [start]),
        env=environment(tmp_path, collections),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ends = [node.end() for node in nodes]
    assert [(end["state"], end["log_tail"]) for end in ends] == [("succeeded", ["met"])] * 8


def test_the_job_outlives_a_killed_controller(
    node: Node, tmp_path: Path, collections: Path
) -> None:
    """The controller dies right after the start; the job is found again and stopped."""
    pause = {"name": "Hang", "ansible.builtin.command": {"argv": ["sleep", "60"]}}
    log = tmp_path / "controller.log"
    with log.open("wb") as out:
        controller = subprocess.Popen(
            playbook(tmp_path, [node], [start_task(["sleep", "300"]), pause]),
            env=environment(tmp_path, collections),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 30
        while "TASK [Hang]" not in log.read_text():
            assert controller.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        os.killpg(controller.pid, signal.SIGKILL)
        controller.wait()
    told = node.start("sleep", "300")
    assert (told["changed"], told["state"]) == (False, "running")
    assert node.module(state="stopped")["state"] == "stopped"
    stat = process_tree.read_stat(told["pid"])
    assert stat is None or stat.dead
