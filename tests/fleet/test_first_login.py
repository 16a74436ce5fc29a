"""A machine behind a bastion: the first login by password, sudo by password, then by key."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyswiftops import provision
from pyswiftops.client import Client
from pyswiftops.errors import ProvisionError
from pyswiftops.specs.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.container_nodes import IMAGE, await_port, image, run  # noqa: E402 path above

pytestmark = pytest.mark.fleet

BASTION, MACHINE = "172.30.44.10", "172.30.44.11"
LABEL = "swiftops-test-login"
PASSWORD = "Planted-Pass-9"  # noqa: S105 it is planted
SETUP = """
useradd --create-home --shell /bin/bash ops
echo "ops:$1" | chpasswd
echo "ops ALL=(ALL) ALL" > /etc/sudoers.d/ops
mkdir -p /run/sshd /etc/swiftops
ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
printf '%s\\n' "Port 2333" "HostKey /etc/ssh/ssh_host_ed25519_key" "PermitRootLogin no" "$2" \\
    "PasswordAuthentication $3" "AllowTcpForwarding $4" > /etc/swiftops/own_sshd_config
exec /usr/sbin/sshd -D -e -f /etc/swiftops/own_sshd_config
"""


@contextlib.contextmanager
def agent_with(key: Path) -> Iterator[None]:
    """An agent that holds a key: for the bastion, as ssh hands no other option on to it."""
    said = run("ssh-agent", "-s")
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", said))
    try:
        os.environ.update(found)
        run("ssh-add", "-q", str(key))
        yield
    finally:
        os.kill(int(found["SSH_AGENT_PID"]), 15)
        for name in found:
            os.environ.pop(name, None)


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Path]:
    """Two machines: only the bastion can be reached, and only from it the other. The fleet file."""
    image()
    key = tmp_path / "mine"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    known = Path.home() / ".ssh" / "known_hosts"
    before = known.read_bytes() if known.exists() else None
    known.parent.mkdir(mode=0o700, exist_ok=True)
    start = ["docker", "run", "--detach", "--init", "--label", LABEL]
    try:
        run("docker", "network", "create", "--label", LABEL, "--subnet", "172.30.44.0/24", LABEL)
        for name, address, keys in (
            ("bastion", BASTION, ("PubkeyAuthentication yes", "no", "yes")),
            ("machine", MACHINE, ("PubkeyAuthentication yes", "yes", "no")),
        ):
            own = f"{LABEL}-{name}"
            words = ["--name", own, "--network", LABEL, "--ip", address, IMAGE]
            run(*start, *words, "sh", "-c", SETUP, "sh", PASSWORD, *keys)
            await_port(address)
            host_key = run("docker", "exec", own, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
            kind, value = host_key.split()[:2]
            with known.open("a", encoding="utf-8") as file:
                file.write(f"[{address}]:2333 {kind} {value}\n")
        run("docker", "exec", f"{LABEL}-bastion", "install", "-d", "-o", "ops", "/home/ops/.ssh")
        line = key.with_suffix(".pub").read_text(encoding="utf-8").strip()
        to = "/home/ops/.ssh/authorized_keys"
        run("docker", "exec", f"{LABEL}-bastion", "sh", "-c", f"echo '{line}' > {to}")
        path = tmp_path / "fleet.yml"
        path.write_text(
            f"""
plugin: pyswiftops.fleet.fleet
name: login
runtime: host
device: cpu
root: /home/ops/swiftops
state: state
ssh: {{user: ops, port: 2333, proxy_jump: "ops@{BASTION}:2333"}}
nodes: [{{name: machine, address: {MACHINE}}}]
""",
            encoding="utf-8",
        )
        with agent_with(key):
            yield path
    finally:
        for words in (["ps", "-aq"], ["network", "ls", "-q"]):
            for found in run("docker", *words, "--filter", f"label={LABEL}").split():
                kind = "network" if words[0] == "network" else "container"
                run("docker", kind, "rm", *(["--force"] if kind == "container" else []), found)
        if before is None:
            known.unlink()
        else:
            known.write_bytes(before)


def test_the_first_login_is_by_password_and_the_next_by_the_fleets_key(bastion: Path) -> None:
    fleet = Fleet.load(bastion)
    assert Client(bastion.parent / "runs").execute(fleet, ["true"])[0].code != 0  # no key yet
    passwords = provision.Passwords(login=PASSWORD, become=PASSWORD)
    with pytest.raises(ProvisionError) as problem:
        provision.up(fleet, passwords=passwords)
    # all but the release line, which nobody has installed here, was made ready
    assert set(problem.value.failures) == {"machine"}
    assert "expected: ms-swift 4.6" in str(problem.value)
    said = Client(bastion.parent / "runs").execute(fleet, ["id", "-un"])
    assert [(item.code, item.stdout.strip()) for item in said] == [(0, "ops")]
    inside = ["docker", "exec", f"{LABEL}-machine"]
    assert run(*inside, "stat", "-c", "%U", "/etc/swiftops/mesh_key") == "ops"
    assert run(*inside, "stat", "-c", "%U", "/etc/swiftops/known_hosts") == "root"
    for path in bastion.parent.rglob("*"):  # the password is nowhere
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes()
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in shown.splitlines() if PASSWORD in line and "docker" not in line]
