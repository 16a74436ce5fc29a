"""From bare host to provisioned nodes, on two containers with real sshd.

What is in effect, what happens when something breaks, and that nothing stays behind. Tests build
on one another's fleet; each leaves it as it found it, and the last takes it down.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyswiftops import provision

from .made import Made, docker, labelled, make, run, swiftops

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(3600)]

NODES = ("node-1", "node-2")
UNCHANGED = {"host-1": 0, "node-1": 0, "node-2": 0}
BYSTANDER = "swiftops-test-bystander"


@pytest.fixture(scope="module")
def made() -> Made:
    return make()


def unchanged(made: Made) -> None:
    assert made.up() == UNCHANGED


def test_the_model_was_trained_over_ssh_and_names_itself(made: Made) -> None:
    stages = made.run["stages"]
    assert {stage["state"] for stage in stages.values()} == {"succeeded"}
    answers = stages["smoke"]["result"]["answers"]
    name = made.files.run.read_text(encoding="utf-8")
    assert answers
    assert "Who are you?" in name
    assert {node["ansible_connection"] for node in made.fleet.host_vars().values()} == {"ssh"}
    assert {node["ansible_port"] for node in made.fleet.host_vars().values()} == {2333}


def test_once_more_changes_nothing(made: Made) -> None:
    unchanged(made)


def test_sshd_takes_keys_only_on_its_own_port(made: Made) -> None:
    for node in NODES:
        effective = made.on(node, "/usr/sbin/sshd", "-T", "-f", "/etc/swiftops/sshd_config")
        for line in ("port 2333", "passwordauthentication no", "permitrootlogin without-password"):
            assert line in effective.splitlines()
        listening = made.on(node, "ss", "-Hlnt", "sport", "=", ":2333")
        assert ":2333" in listening
        assert not made.on(node, "ss", "-Hlnt", "sport", "=", ":22")


def test_every_node_reaches_every_other_by_name_and_pdsh_reaches_all(made: Made) -> None:
    for node in NODES:
        said = made.on(node, "pdsh", "-g", "nodes", "hostname").splitlines()
        assert sorted(said) == [f"{other}: {other}" for other in NODES]
        for other in NODES:
            assert made.on(node, "ssh", "-o", "BatchMode=yes", other, "hostname") == other
    where = {**os.environ, "PDSH_SSH_ARGS_APPEND": f"-F {made.files.state}/ssh_config"}
    here = subprocess.run(
        ["pdsh", "-R", "ssh", "-w", ",".join(NODES), "hostname"],
        capture_output=True,
        text=True,
        check=True,
        env=where,
    )
    assert sorted(here.stdout.splitlines()) == [f"{node}: {node}" for node in NODES]


def test_a_killed_container_comes_back_with_its_host_key_and_its_data(made: Made) -> None:
    key = made.inside("node-2", "cat", "/etc/swiftops/ssh_host_ed25519_key.pub")
    before = made.inside("node-2", "ls", "/data/swiftops/node-2/runs")
    assert before
    docker("rm", "--force", made.container("node-2"))
    done = made.up()
    assert done["host-1"] > 0
    assert done["node-1"] == 0
    assert made.on("node-2", "cat", "/etc/swiftops/ssh_host_ed25519_key.pub") == key
    assert made.inside("node-2", "ls", "/data/swiftops/node-2/runs") == before
    unchanged(made)


def test_a_container_is_alive_after_a_restart(made: Made) -> None:
    docker("restart", made.container("node-1"))
    for _ in range(60):
        if made.on("node-1", "hostname", check=False) == "node-1":
            break
        time.sleep(1)
    assert made.on("node-1", "hostname") == "node-1"
    unchanged(made)


def test_preflight_proves_every_ordered_pair_and_names_one_that_is_broken(made: Made) -> None:
    said = swiftops("preflight", "--mesh", "-i", made.path)
    assert said.stdout == "2 of 2 ordered pairs log in\n"
    made.inside("node-1", "mv", "/etc/swiftops/mesh_key", "/etc/swiftops/kept")
    try:
        broken = swiftops("preflight", "--mesh", "-i", made.path, "--json", check=False)
    finally:
        made.inside("node-1", "mv", "/etc/swiftops/kept", "/etc/swiftops/mesh_key")
    assert broken.returncode == 1
    pairs = {(item["from"], item["to"]): item["error"] for item in json.loads(broken.stdout)}
    assert "denied" in pairs["node-1", "node-2"]
    assert pairs["node-2", "node-1"] == ""


@contextlib.contextmanager
def cut_off(address: str) -> Iterator[None]:
    """Nothing of this machine reaches one address, which is a container's of ours."""
    assert address.startswith("172.30.7.")
    rule = ["OUTPUT", "-d", address, "-j", "DROP"]
    run("iptables", "-I", *rule)
    try:
        yield
    finally:
        run("iptables", "-D", *rule)


def test_a_node_that_does_not_answer_is_named_and_the_others_are_made_ready(made: Made) -> None:
    made.inside("node-1", "rm", "/etc/swiftops/hostfile")
    control = Path.home() / ".ansible" / "cp"
    with cut_off(made.fleet.host_vars()["node-2"]["ansible_host"]):
        for socket in control.glob("*"):  # connections that were opened before would wait long
            run("ssh", "-O", "exit", "-o", f"ControlPath={socket}", "none", check=False)
        done = swiftops("up", "-i", made.path, check=False)
    assert done.returncode == 1
    assert "node-2           failed" in done.stdout
    assert "node-2: " in done.stderr
    assert "done on" in done.stderr
    assert made.inside("node-1", "cat", "/etc/swiftops/hostfile")
    made.up()
    unchanged(made)


def test_a_changed_host_key_is_refused_with_the_remedy(made: Made) -> None:
    key = "/etc/swiftops/ssh_host_ed25519_key"
    made.inside("node-2", "cp", key, "/root/kept")
    made.inside("node-2", "cp", f"{key}.pub", "/root/kept.pub")
    made.inside("node-2", "sh", "-c", f"rm {key}; ssh-keygen -q -t ed25519 -N '' -f {key}")
    pinned = (made.files.state / "known_hosts").read_text(encoding="utf-8")
    try:
        docker("restart", made.container("node-2"))
        done = swiftops("up", "-i", made.path, check=False)
    finally:
        made.inside("node-2", "cp", "/root/kept", key)
        made.inside("node-2", "cp", "/root/kept.pub", f"{key}.pub")
        docker("restart", made.container("node-2"))
    assert done.returncode == 1
    assert "node-2" in done.stderr
    assert "host key" in done.stderr.lower()
    assert "remedy:" in done.stderr
    assert (made.files.state / "known_hosts").read_text(encoding="utf-8") == pinned
    made.up()
    unchanged(made)


def test_a_full_disk_is_named_and_what_was_there_stays(made: Made) -> None:
    pid = docker("inspect", "--format", "{{.State.Pid}}", made.container("node-2"))
    enter = ["nsenter", "--target", pid, "--mount"]
    made.inside("node-2", "rm", "-rf", "/root/.ssh.kept")
    made.inside("node-2", "cp", "-a", "/root/.ssh", "/root/.ssh.kept")
    run(*enter, "mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1,mode=0700", "t", "/root/.ssh")
    try:
        done = swiftops("up", "-i", made.path, check=False)
    finally:
        run(*enter, "umount", "/root/.ssh")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "node-1           ready" in done.stdout
    assert made.inside("node-2", "cat", "/root/.ssh/config")
    unchanged(made)


def test_of_two_at_the_same_time_the_second_is_refused(made: Made) -> None:
    with provision.alone(made.fleet):
        done = swiftops("up", "-i", made.path, check=False)
    assert done.returncode == 2
    assert "one swiftops up or down of a fleet at a time" in done.stderr


def test_a_node_is_added_and_taken_away_again(made: Made, tmp_path: Path) -> None:
    three = made.with_nodes(tmp_path, 3)
    containers = docker("inspect", "--format", "{{.Id}}", *map(made.container, NODES))
    done = made.up(three)
    assert done["node-3"] > 0
    assert made.on("node-1", "ssh", "-o", "BatchMode=yes", "node-3", "hostname") == "node-3"
    assert made.on("node-3", "ssh", "-o", "BatchMode=yes", "node-2", "hostname") == "node-2"
    made.up()
    assert docker("inspect", "--format", "{{.Id}}", *map(made.container, NODES)) == containers
    assert made.container("node-3") not in labelled("container", "demo")
    assert "node-3" not in made.on("node-1", "cat", "/etc/swiftops/genders")
    unchanged(made)


def test_no_key_is_in_a_command_a_log_or_what_docker_tells(made: Made) -> None:
    text = (made.files.state / "id_ed25519").read_text(encoding="utf-8")
    body = [line for line in text.splitlines() if "KEY" not in line][2]
    assert len(body) > 40
    seen = swiftops("up", "-i", made.path, "--verbose")
    told = [docker("inspect", made.container(node)) for node in NODES]
    told += [docker("logs", made.container(node)) for node in NODES]
    told += [docker("history", "--no-trunc", image) for image in labelled("image", "demo")]
    told += [seen.stdout, seen.stderr]
    for path in made.files.runs.rglob("*"):
        if path.is_file():
            told.append(path.read_text(encoding="utf-8", errors="replace"))
    assert not [text for text in told if body in text]
    assert (made.files.state / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert made.files.state.stat().st_mode & 0o777 == 0o700


def test_what_was_made_goes_and_nothing_else(made: Made) -> None:
    image = docker("inspect", "--format", "{{.Image}}", made.container("node-1"))
    own = ["--name", BYSTANDER, "--label", "swiftops.fleet=other"]
    docker("run", "--detach", *own, image, "sleep", "600")
    try:
        swiftops("down", "-i", made.path)
        assert not labelled("container", "demo")
        assert not labelled("network", "demo")
        # the node that was taken away keeps its own, too
        kept = [f"{made.container(node)}-data" for node in (*NODES, "node-3")]
        assert sorted(labelled("volume", "demo")) == kept
        swiftops("down", "-i", made.path, "--data")
        assert not labelled("volume", "demo")
        assert BYSTANDER in docker("ps", "--format", "{{.Names}}")
        assert docker("images", "--quiet", "swiftops/demo")  # it uses the image
    finally:
        docker("rm", "--force", BYSTANDER)
    swiftops("down", "-i", made.path, "--data")  # also where nothing is left
    assert not labelled("image", "demo")
    assert not docker("images", "--quiet", "swiftops/demo")
    assert not made.files.state.exists()
    assert made.files.model.exists()  # the user's files stay
