"""Zsh, limits and kernel settings on machines that SSH reaches, and the way back."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.container_nodes import IMAGE, await_port, image, run
from pyswiftops.content import collections_path

from .docker_lab import docker

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(600)]
LABEL = "swiftops-test-machines"
SUBNET = "172.30.66.0/25"
ADDRESSES = {"m-1": "172.30.66.21", "m-2": "172.30.66.22"}  # m-2 may set its kernel settings
MAY = ["--cap-add=NET_ADMIN", "--security-opt=systempaths=unconfined"]
BOOT = """
install -d -m 0700 /root/.ssh && echo "$1" > /root/.ssh/authorized_keys
mkdir -p /run/sshd && ssh-keygen -A > /dev/null && exec /usr/sbin/sshd -D -o UsePAM=yes
"""
PROVE = ("-e", "settings_prove=never")  # these machines take no key of the fleet
TALK = """
print autosuggestions=$+functions[_zsh_autosuggest_start] highlighting=$+functions[_zsh_highlight]
print mine=$MINE framework=$FRAMEWORK theme=$ZSH_THEME
exit
"""


@dataclass
class Machines:
    folder: Path

    def play(self, *words: str, fails: bool = False, **fields: Any) -> str:
        """Run the settings with these fields of the fleet file; return what Ansible printed."""
        document = {
            "plugin": "pyswiftops.fleet.fleet",
            "name": f"machines-{os.getpid()}",
            "runtime": "host",
            "device": "cpu",
            "state": str(self.folder / "state"),
            "ssh": {
                "private_key": str(self.folder / "key"),
                "options": {"UserKnownHostsFile": str(self.folder / "known_hosts")},
            },
            "nodes": [{"name": name, "address": at} for name, at in ADDRESSES.items()],
            **fields,
        }
        path = self.folder / "fleet.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        program = str(Path(sys.executable).parent / "ansible-playbook")
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
        }
        argv = [program, "pyswiftops.fleet.settings", "-i", str(path), *PROVE, *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
        assert bool(done.returncode) == fails, done.stdout[-5000:] + done.stderr[-2000:]
        return " ".join((done.stdout + done.stderr).split())

    def on(self, name: str, *argv: str, text: str | None = None) -> str:
        """Run a program on a machine, past SSH."""
        words = ["docker", "exec", "-i", f"{LABEL}-{name}", *argv]
        done = subprocess.run(words, check=False, capture_output=True, text=True, input=text)
        return done.stdout + done.stderr

    def login(self, name: str, command: str) -> str:
        """Run a command in a login of its own."""
        known = f"UserKnownHostsFile={self.folder / 'known_hosts'}"
        words = ["-o", "ControlPath=none", "-o", known, "-i", str(self.folder / "key")]
        return run("ssh", *words, f"root@{ADDRESSES[name]}", command)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    image()
    folder = tmp_path_factory.mktemp("machines")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
    public = (folder / "key.pub").read_text(encoding="utf-8").strip()
    try:
        docker("network", "create", "--label", LABEL, "--subnet", SUBNET, LABEL)
        for name, address in ADDRESSES.items():
            may = (
                ["--cap-add=NET_ADMIN", "--security-opt=systempaths=unconfined"]
                if name == "m-2"
                else []
            )
            docker("run", "-d", "--init", *may, "--label", LABEL, "--name", f"{LABEL}-{name}",
                   "--hostname", name, "--network", LABEL, "--ip", address,
                   "--ulimit", "nofile=20000:20000", IMAGE,
                   "sh", "-c", BOOT, "sh", public)  # fmt: skip
        with (folder / "known_hosts").open("w", encoding="utf-8") as file:
            for name, address in ADDRESSES.items():
                await_port(address, 22)
                key = docker("exec", f"{LABEL}-{name}", "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
                file.write(f"{address} {' '.join(key.split()[:2])}\n")
        yield Machines(folder)
    finally:
        for found in docker("ps", "-aq", "--filter", f"label={LABEL}").split():
            docker("rm", "--force", "--volumes", found)
        for found in docker("network", "ls", "-q", "--filter", f"label={LABEL}").split():
            docker("network", "rm", found)


def changed(said: str) -> int:
    return sum(int(count) for count in re.findall(r"changed=(\d+)", said))


def test_limits_are_those_of_a_fresh_login_and_come_back(machines: Machines) -> None:
    machines.play()
    before = machines.login("m-1", "ulimit -n")
    tuning = {"limits": {"nofile": 4321}}
    assert "Log in anew" in machines.play(host_tuning=tuning)
    assert machines.login("m-1", "ulimit -n") == "4321"
    again = machines.play(host_tuning=tuning)
    assert changed(again) == 0
    machines.play()
    assert machines.login("m-1", "ulimit -n") == before
    assert changed(machines.play()) == 0


def test_a_limit_that_would_end_all_logins_is_refused(machines: Machines) -> None:
    said = machines.play("-l", "m-1", host_tuning={"limits": {"nofile": 2000000000}}, fails=True)
    assert "nobody could log in any more" in said
    assert machines.login("m-1", "echo in") == "in"
    assert "No such file" in machines.on("m-1", "ls", "/etc/security/limits.d/90-swiftops.conf")


def test_kernel_settings_are_read_back_and_come_back(machines: Machines) -> None:
    setting = "/proc/sys/net/core/somaxconn"  # one of each network namespace
    before = machines.on("m-2", "cat", setting)
    said = machines.play(host_tuning={"sysctl": {"net.core.somaxconn": 7777}})
    assert machines.on("m-2", "cat", setting) == "7777\n"
    assert "net.core.somaxconn = 7777; found: Read-only file system" in said  # m-1, which may not
    assert machines.on("m-1", "cat", setting) == before
    assert changed(machines.play(host_tuning={"sysctl": {"net.core.somaxconn": 7777}})) == 0
    machines.play()
    assert machines.on("m-2", "cat", setting) == before
    for path in ("/etc/sysctl.d/90-swiftops.conf", "/etc/swiftops/sysctl.before"):
        assert "No such file" in machines.on("m-2", "ls", path)


def test_zsh_loads_both_plugins_and_leaves_the_users_file_alone(machines: Machines) -> None:
    root = machines.folder / "ohmyzsh-1"
    root.mkdir()
    (root / "oh-my-zsh.sh").write_text("FRAMEWORK=stand-in\n", encoding="utf-8")
    archive = machines.folder / "ohmyzsh.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root, arcname=root.name)
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    only = ("-l", "m-1")
    source = {"path": str(archive), "sha256": "0" * 64}
    said = machines.play(*only, dev_shell={"oh_my_zsh": source}, fails=True)
    assert f"found: {right}" in said
    shell = {"users": ["root"], "oh_my_zsh": {**source, "sha256": right}, "theme": "agnoster"}
    machines.on("m-1", "sh", "-c", "echo MINE=yes > /root/.zshrc")
    machines.play(*only, dev_shell=shell)
    assert changed(machines.play(*only, dev_shell=shell)) == 0
    talk = ("script", "-qec", "zsh -i", "/dev/null")
    said = machines.on("m-1", "env", "HOME=/root", "TERM=xterm", *talk, text=TALK)
    assert "autosuggestions=1 highlighting=1" in said
    assert "mine=yes framework=stand-in theme=agnoster" in said
    assert machines.on("m-1", "cat", "/root/.zshrc") == "MINE=yes\n"
    machines.play(*only)
    assert "No such file" in machines.on("m-1", "ls", "/opt/oh-my-zsh")
    assert "swiftops" not in machines.on("m-1", "cat", "/etc/zsh/zshrc")
    assert changed(machines.play(*only)) == 0
