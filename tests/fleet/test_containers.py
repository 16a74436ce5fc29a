"""Containers of a fleet on this machine, with real Docker, from nothing to nothing."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.runner import environment

from .docker_lab import Lab, docker, inspected, small_lab, small_wheelhouse

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

PLAYBOOK = "pyswiftops.fleet.containers"
FIRST = "172.30.71.10"
HOST_KEY = "/etc/swiftops/ssh_host_ed25519_key.pub"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The fleet, made once; tests leave it as they found it."""
    with small_lab(tmp_path_factory.mktemp("lab")) as made:
        made.play("containers")
        yield made


def key_of(lab: Lab, node: str) -> str:
    return " ".join(docker("exec", lab.container(node), "cat", HOST_KEY).split()[:2])


def login(lab: Lab, node: str, address: str, command: str) -> str:
    """Log in with the fleet's key, trusting only the key that lies in the node's volume."""
    known = lab.folder / "known_hosts"
    known.write_text(f"{lab.container(node)} {key_of(lab, node)}\n", encoding="utf-8")
    options = [f"UserKnownHostsFile={known}", f"HostKeyAlias={lab.container(node)}"]
    options += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
    done = subprocess.run(
        ["ssh", "-F", "none", "-i", str(lab.folder / "state" / "id_ed25519"), "-p", "2333"]
        + [word for option in options for word in ("-o", option)]
        + [f"root@{address}", command],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def greeting(address: str) -> str:
    """What sshd says first, or "" where none answers."""
    try:
        with socket.create_connection((address, 2333), timeout=5) as connection:
            return connection.recv(64).decode("ascii", "replace")
    except OSError:
        return ""


def test_containers_are_as_the_fleet_file_says(lab: Lab) -> None:
    found = inspected(lab.container("node-1"))
    assert found["State"]["Running"]
    assert found["Config"]["Hostname"] == "node-1"
    assert found["Config"]["Labels"]["swiftops.fleet"] == lab.name
    host = found["HostConfig"]
    assert host["Init"] is True
    assert host["ShmSize"] == 64 << 20
    assert host["CapAdd"] in (["IPC_LOCK"], ["CAP_IPC_LOCK"])
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    network = found["NetworkSettings"]["Networks"][f"swiftops-{lab.name}"]
    assert network["IPAddress"] == FIRST
    assert (lab.folder / "models").is_dir()
    assert "/models" in {mount["Destination"] for mount in found["Mounts"]}


def test_the_fleets_key_logs_in_and_the_image_has_its_python(lab: Lab) -> None:
    python = "/opt/swift/bin/python -c 'import small, pyswiftops; print(small.__name__)'"
    assert login(lab, "node-1", FIRST, f"hostname; {python}").split() == ["node-1", "small"]
    for program in ("pdsh", "rsync", "ip", "ps", "nodeattr"):
        assert login(lab, "node-1", FIRST, f"command -v {program}")


def test_no_secret_is_in_what_docker_shows(lab: Lab) -> None:
    secret = (lab.folder / "state" / "id_ed25519").read_text(encoding="utf-8").splitlines()[2]
    shown = docker("inspect", lab.container("node-1")) + docker(
        "history", "--no-trunc", inspected(lab.container("node-1"))["Image"]
    )
    assert secret not in shown
    assert (lab.folder / "state").stat().st_mode & 0o777 == 0o700


def test_the_second_time_nothing_changes(lab: Lab) -> None:
    before = lab.ids()
    assert lab.play("containers").changed == {"host-1": 0}
    assert lab.ids() == before


def test_every_node_has_a_host_key_of_its_own(lab: Lab) -> None:
    assert key_of(lab, "node-1") != key_of(lab, "node-2")


def test_sshd_is_back_after_docker_restart(lab: Lab) -> None:
    docker("restart", "--time=5", lab.container("node-1"))
    deadline = time.monotonic() + 30
    while "SSH-2.0" not in greeting(FIRST):
        assert time.monotonic() < deadline, "sshd did not come back"
        time.sleep(0.5)
    assert login(lab, "node-1", FIRST, "hostname") == "node-1"


def test_what_stands_still_is_started_and_nothing_else_touched(lab: Lab) -> None:
    before = lab.ids()
    docker("kill", lab.container("node-2"))
    assert lab.play("containers").changed == {"host-1": 1}
    assert lab.ids() == before
    assert inspected(lab.container("node-2"))["State"]["Running"]


def test_a_container_at_work_is_not_made_anew(lab: Lab) -> None:
    before = lab.ids()
    name = lab.container("node-1")
    docker("exec", "--detach", "--env=SWIFTOPS_JOB=r1/train", name, "sleep", "600")
    try:
        said = lab.why("containers", shm_size="96m")
        assert f"{name} (r1/train)" in said
        assert "remedy:" in said
        assert lab.ids() == before
        said = lab.why("teardown")
        assert "r1/train" in said
        assert lab.ids() == before
    finally:
        docker("exec", name, "pkill", "sleep")


def test_a_changed_definition_keeps_key_and_data(lab: Lab) -> None:
    before, key = lab.ids(), key_of(lab, "node-1")
    root = "/data/swiftops/node-1"
    docker("exec", lab.container("node-1"), "sh", "-c", f"echo mine > {root}/file")
    lab.play("containers", shm_size="96m")
    after = lab.ids()
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert inspected(lab.container("node-1"))["HostConfig"]["ShmSize"] == 96 << 20
    assert key_of(lab, "node-1") == key
    assert docker("exec", lab.container("node-1"), "cat", f"{root}/file") == "mine"
    lab.play("containers")


def test_a_node_that_is_taken_out_goes_and_the_other_stays(lab: Lab) -> None:
    before = lab.ids()
    lab.play("containers", nodes=lab.document["nodes"][:1])
    assert lab.ids() == {lab.container("node-1"): before[lab.container("node-1")]}
    lab.play("containers")
    after = lab.ids()
    assert after[lab.container("node-1")] == before[lab.container("node-1")]
    assert set(after) == set(before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shm_size": "9999g"}, "a smaller container.shm_size"),
        ({"network": "host"}, "an address and port of its own"),
        ({"network": {"name": "bridge"}}, "no network bridge of somebody else"),
        ({"image": {"archive": "/nowhere/image.tar"}}, "another container.image.archive"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(
    lab: Lab, changes: dict[str, Any], said: str
) -> None:
    before = lab.left()
    assert said in " ".join(lab.why("containers", **changes).split())
    assert lab.left() == before


def test_a_wheelhouse_of_another_line_is_refused(lab: Lab, tmp_path: Path) -> None:
    before, other = lab.ids(), small_wheelhouse(tmp_path / "other", line="4.5")
    said = lab.why("containers", image={"build": {"wheelhouse": str(other)}})
    assert "expected: a wheelhouse of line 4.6; found: one of line 4.5" in said
    assert lab.ids() == before


def test_check_mode_changes_nothing(lab: Lab) -> None:
    before = lab.left()
    lab.write(shm_size="96m")
    done = subprocess.run(
        ["ansible-playbook", "--check", "-i", str(lab.folder / "fleet.yml"), PLAYBOOK],
        env={**os.environ, **environment()},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"changed=[1-9]", done.stdout), "it says what would change"
    assert lab.left() == before


def test_an_image_comes_out_of_an_archive(lab: Lab, tmp_path: Path) -> None:
    image = inspected(lab.container("node-1"))["Image"]
    (reference,) = [
        line
        for line in docker(
            "image", "ls", "--format={{.Repository}}:{{.Tag}}", f"swiftops/{lab.name}"
        ).splitlines()
        if not line.endswith(":base")
    ]
    archive = tmp_path / "image.tar.zst"
    before = set(Path("/var/tmp").glob("swiftops-*"))  # noqa: S108 the role's folder
    with archive.open("wb") as file:
        save = subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE)
        subprocess.run(["zstd", "-1", "-T0", "-q"], stdin=save.stdout, stdout=file, check=True)
        assert save.wait() == 0
    changes = {"image": {"archive": str(archive)}}
    assert lab.play("images", **changes).changed["host-1"] > 0
    assert lab.play("images", **changes).changed == {"host-1": 0}
    assert inspected(lab.container("node-1"))["Image"] == image
    assert set(Path("/var/tmp").glob("swiftops-*")) == before  # noqa: S108 the role's folder


def test_teardown_leaves_the_nodes_data_and_the_users_folders(lab: Lab) -> None:
    (lab.folder / "models" / "mine").write_text("mine", encoding="utf-8")
    lab.play("teardown")
    left = lab.left()
    assert left.pop("volumes") == [f"{lab.container(f'node-{n}')}-data" for n in (1, 2)]
    assert not any(left.values())
    lab.play("teardown", variables={"teardown_data": True})
    assert not any(lab.left().values())
    assert (lab.folder / "models" / "mine").read_text(encoding="utf-8") == "mine"
    assert lab.play("teardown").changed == {"host-1": 0}
