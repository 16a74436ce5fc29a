"""Bare hosts: machines with SSH and Python and nothing else, and a registry that they reach.

They are containers that may run a Docker of their own. One boots with systemd, one has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .docker_lab import Lab, docker, small_wheelhouse

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.container_nodes import IMAGE, await_port, image, run

LABEL = "swiftops-test-hosts"
NETWORK, REGISTRY = "172.30.46.0/24", "172.30.46.10"
ADDRESSES = {"h-1": "172.30.46.11", "h-2": "172.30.46.12"}
HOST, STORE = "swiftops-test-host:1", "swiftops-test-registry:1"
BASE = "swiftops-lab/base:1"  # as the registry, a mirror of the default one, calls it
INSTALL = "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends"
STORE_CONFIG = """\
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: ":5000"}
"""
# What Docker forbids its containers by default and an engine inside of one needs.
MAY_RUN_AN_ENGINE = [
    *(f"--cap-add={name}" for name in ("IPC_LOCK", "MKNOD", "NET_ADMIN", "SYS_ADMIN")),
    *(f"--security-opt={name}=unconfined" for name in ("seccomp", "apparmor", "systempaths")),
    "--device-cgroup-rule=a *:* rwm",
]
BOOT = """
for mount in /sys/fs/cgroup/*; do mount -o remount,bind,rw $mount; done
id ops > /dev/null 2>&1 || useradd --create-home --shell /bin/bash ops
echo "ops ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/ops
install -d -o ops -m 0700 /home/ops/.ssh
echo "$1" > /home/ops/.ssh/authorized_keys
mkdir -p /run/sshd
ls /etc/ssh/ssh_host_ed25519_key > /dev/null 2>&1 || ssh-keygen -A
if test "$2" = systemd; then exec /sbin/init; else exec /usr/sbin/sshd -D; fi
"""


def _images() -> None:
    """A host with systemd beside what the base has, and a registry."""
    image()
    for name, packages in ((HOST, "dbus sudo systemd-sysv"), (STORE, "docker-registry")):
        text = f"FROM {IMAGE}\nENV DEBIAN_FRONTEND=noninteractive\n{INSTALL} {packages}\n"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "Dockerfile"
            file.write_text(text, encoding="utf-8")
            environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
            words = ["docker", "build", "--quiet", "--tag", name, folder]
            subprocess.run(words, check=True, capture_output=True, env=environment)


def _start(name: str, address: str, *words: str) -> None:
    common = ["--detach", "--label", LABEL, "--name", f"{LABEL}-{name}", "--hostname", name]
    docker("run", *common, "--network", LABEL, "--ip", address, *words)


@dataclass
class Hosts:
    """The hosts, and a fleet on them.

    Attributes:
        lab: The fleet file and what is done with it.
        port: Where this machine reaches the registry.
    """

    lab: Lab
    port: str

    def on(self, host: str, *argv: str) -> str:
        """Run a program on a host, past SSH."""
        return docker("exec", f"{LABEL}-{host}", *argv)

    def image_of(self, host: str, node: str) -> str:
        """The id of the image that a node runs."""
        return self.on(host, "docker", "inspect", "-f", "{{.Image}}", self.lab.container(node))

    def names(self, host: str) -> list[str]:
        """Names of all images of a host."""
        return self.on(host, "docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()

    def reboot(self, host: str) -> None:
        """Stop a host with all that runs on it, and boot it again."""
        docker("restart", "--time", "20", f"{LABEL}-{host}")
        await_port(ADDRESSES[host], 22)

    def await_node(self, host: str, port: int = 2333) -> None:
        """Wait until a node's sshd answers."""
        deadline = time.monotonic() + 90
        while True:
            said = subprocess.run(
                ["ssh-keyscan", "-T", "3", "-p", str(port), ADDRESSES[host]],
                capture_output=True, check=False,
            ).stdout  # fmt: skip
            if said:
                return
            assert time.monotonic() < deadline, f"nothing answers at {host}"
            time.sleep(1)

    def push(self, reference: str, name: str) -> str:
        """Put an image of this machine into the registry; return its digest there."""
        ours = f"127.0.0.1:{self.port}/{name}"
        docker("tag", reference, ours)
        try:
            said = docker("push", ours)
        finally:
            docker("rmi", ours)
        return said.rsplit("digest: ", 1)[1].split()[0]


@contextmanager
def bare_hosts(folder: Path) -> Iterator[Hosts]:
    """Two hosts and a registry; everything of them is taken away at the end."""
    _images()
    key = folder / "mine"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    public = key.with_suffix(".pub").read_text(encoding="utf-8").strip()
    config = folder / "registry.yml"
    config.write_text(STORE_CONFIG, encoding="utf-8")
    try:
        docker("network", "create", "--label", LABEL, "--subnet", NETWORK, LABEL)
        seen = ["--volume", f"{config}:/registry.yml:ro", "--publish", "127.0.0.1::5000"]
        _start("registry", REGISTRY, *seen, STORE, "docker-registry", "serve", "/registry.yml")
        disk = ["--mount", "type=volume,target=/var/lib/docker"]
        plain = ["--init", *disk, *MAY_RUN_AN_ENGINE, HOST, "sh", "-c", BOOT, "sh", public, "none"]
        _start("h-1", ADDRESSES["h-1"], *plain)
        booted = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--stop-signal", "SIGRTMIN+3"]
        booted += ["--env", "container=docker", *disk, *MAY_RUN_AN_ENGINE]
        _start("h-2", ADDRESSES["h-2"], *booted, HOST, "sh", "-c", BOOT, "sh", public, "systemd")
        known = folder / "known_hosts"
        for name, address in ADDRESSES.items():
            await_port(address, 22)
            host_key = docker("exec", f"{LABEL}-{name}", "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
            with known.open("a", encoding="utf-8") as file:
                file.write(f"{address} {' '.join(host_key.split()[:2])}\n")
        published = docker("port", f"{LABEL}-registry", "5000").rsplit(":", 1)[1]
        lab = Lab(folder, f"hosts-{os.getpid()}", NETWORK, _document(folder, key, known))
        lab.document["name"] = lab.name
        yield Hosts(lab, published)
    finally:
        for found in docker("ps", "-aq", "--filter", f"label={LABEL}").split():
            docker("rm", "--force", "--volumes", found)
        for found in docker("network", "ls", "-q", "--filter", f"label={LABEL}").split():
            docker("network", "rm", found)


def _document(folder: Path, key: Path, known: Path) -> dict[str, object]:
    return {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "container",
        "device": "cpu",
        "state": str(folder / "state"),
        "host_ssh": {
            "user": "ops",
            "private_key": str(key),
            "options": {"UserKnownHostsFile": str(known)},
        },
        "hosts": [{"name": name, "address": address} for name, address in ADDRESSES.items()],
        "container": {
            "image": {
                "build": {"base": BASE, "wheelhouse": str(small_wheelhouse(folder / "wheelhouse"))}
            },
            "network": "host",
            "shm_size": "64m",
            "mounts": {"models": "/data/models"},
            "engine": {
                "registry_mirrors": [f"http://{REGISTRY}:5000"],
                "insecure_registries": [f"{REGISTRY}:5000"],
            },
        },
        "nodes": [{"name": "node-1", "host": "h-1"}, {"name": "node-2", "host": "h-2"}],
    }
