"""What goes wrong between nodes: nothing is lost, nothing half done gets its name."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from bench.container_nodes import run

from .lab import SLOW, Lab

pytestmark = pytest.mark.fleet

Request = dict[str, Any]


def test_all_nodes_give_over_ssh_and_a_second_gather_moves_nothing(lab: Lab) -> None:
    lab.ask()
    assert lab.gather() == (0, "")
    assert lab.whole()
    lab.ask()
    assert lab.gather() == (0, "")
    assert lab.moved() == 0


def test_a_source_that_dies_in_the_middle_loses_nothing(lab: Lab) -> None:
    lab.ask(rate=SLOW)
    job = lab.start()
    lab.until_half(job)
    run("docker", "kill", lab.container("node-2"))
    _, said = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "node-2: the stream broke" in said
    assert "what has arrived is kept" in said
    assert not lab.dest.exists()
    kept = lab.arrived()
    lab.revive("node-2")
    lab.ask()
    assert lab.gather() == (0, "")
    assert lab.whole()
    assert lab.moved() <= lab.made.bytes - kept + 4 * 1024 * 1024  # but for chunks cut in two


def test_a_network_that_is_cut_and_comes_back(lab: Lab) -> None:
    lab.ask(rate=SLOW)
    job = lab.start()
    lab.until_half(job)
    lab.network("disconnect", "node-3")
    _, said = job.communicate(timeout=90)
    assert job.returncode == 1
    assert "node-3: the stream broke" in said
    lab.network("connect", "node-3")
    lab.ask()
    assert lab.gather() == (0, "")
    assert lab.whole()


def test_a_gather_that_is_killed_goes_on_where_it_was(lab: Lab) -> None:
    lab.ask(rate=SLOW)
    job = lab.start()
    lab.until_half(job)
    lab.nodes.inside("node-1", "pkill", "-KILL", "-f", "pyswiftops.checkpoints.receive")
    job.wait()
    assert not lab.dest.exists()
    kept = lab.arrived()
    lab.ask()
    assert lab.gather() == (0, "")
    assert lab.whole()
    assert lab.moved() < lab.made.bytes - kept + 4 * 1024 * 1024


def test_two_gathers_at_once(lab: Lab) -> None:
    lab.ask(rate=SLOW)
    first = lab.start()
    lab.until_half(first)
    code, said = lab.gather()
    assert code == 1
    assert "another one is at work" in said
    _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    assert lab.whole()


@pytest.fixture
def small_disk(lab: Lab) -> Any:
    """A file system of 40 MB at the target's folder, in the first node's eyes too."""
    (lab.data / "target").mkdir()
    pid = run("docker", "inspect", "-f", "{{.State.Pid}}", lab.container("node-1"))
    enter = ["nsenter", "-t", pid, "-m", "--"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", "/data/target"]
    subprocess.run([*enter, *mount], check=True)
    yield [*enter]
    subprocess.run([*enter, "umount", "/data/target"], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_moves(
    lab: Lab, small_disk: list[str]
) -> None:
    lab.ask()
    code, said = lab.gather()
    assert code == 1
    assert "bytes free" in said
    assert "--weights-only" in said
    held = subprocess.run(
        [*small_disk, "find", "/data/target", "-name", "*.distcp"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert held == ""


def test_a_disk_that_fills_up_in_the_middle(lab: Lab, small_disk: list[str]) -> None:
    """Another program takes the space that was there when the gather began."""

    def two_nodes(request: Request) -> None:
        request["iter_dir"] = ""
        request["parts"] = [part for part in request["parts"] if part["node"] == "node-2"]

    lab.ask(two_nodes, rate=SLOW)
    job = lab.start()
    fill = "while ! ls /data/target/.checkpoint-10.gather/*/*.distcp; do sleep 0.1; done; "
    fill += "head -c 30000000 /dev/zero > /data/target/other"
    subprocess.run([*small_disk, "sh", "-c", fill], check=True, capture_output=True, timeout=60)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "No space left on device" in said
    assert "free space on this node" in said
    subprocess.run([*small_disk, "rm", "/data/target/other"], check=True)
    assert lab.gather() == (0, "")


def test_a_file_that_the_login_user_may_not_read(lab: Lab) -> None:
    lab.nodes.inside("node-2", "sh", "-c", "id ops || useradd -m -p '*' ops; chmod 700 /home/ops")
    lab.nodes.inside("node-2", "sh", "-c", "su ops -c 'mkdir -p ~/.ssh'; ")
    lab.nodes.inside(
        "node-2",
        *("sh", "-c", "cp /etc/swiftops/authorized_keys ~ops/.ssh/ && chown -R ops ~ops/.ssh"),
    )
    lab.made.shard(1).chmod(0o000)

    def as_ops(request: Request) -> None:
        for part in request["parts"]:
            if part["node"] == "node-2":
                part["remote"]["user"] = "ops"

    lab.ask(as_ops)
    code, said = lab.gather()
    assert code == 1
    assert "Permission denied" in said
    assert "let the login user read" in said
    lab.made.shard(1).chmod(0o644)
    assert lab.gather() == (0, "")


def test_a_host_key_that_is_not_the_pinned_one_is_refused(lab: Lab) -> None:
    def another(request: Request) -> None:
        for part in request["parts"]:
            if part["node"] == "node-2":
                options = ["-o", "HostKeyAlias=someone-else", "-o", "StrictHostKeyChecking=yes"]
                part["remote"] |= {"host": lab.address("node-2"), "port": 2333, "user": "root"}
                part["remote"]["ssh_options"] = options

    lab.ask(another)
    code, said = lab.gather()
    assert code == 1
    assert "Host key verification failed" in said


def test_a_source_without_that_python(lab: Lab) -> None:
    def another(request: Request) -> None:
        for part in request["parts"]:
            if part["node"] == "node-2":
                part["python"] = "/opt/none/bin/python"

    lab.ask(another)
    code, said = lab.gather()
    assert code == 1
    assert "/opt/none/bin/python" in said


def test_without_optimizer_a_sixth_crosses_the_network(lab: Lab) -> None:
    lab.ask(weights_only=True)
    assert lab.gather() == (0, "")
    assert lab.moved() < lab.made.bytes / 6
    record = json.loads((lab.dest / ".gathered.json").read_text())
    assert record["left_out"] > 5 * record["moved"]
