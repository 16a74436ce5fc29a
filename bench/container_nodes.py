"""Throwaway nodes for benches and tests: containers with sshd, each with its own address.

Needs Docker and root. Where no image of the name is there, debootstrap makes a Debian.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pyswiftops.content import collections_path
from pyswiftops.settings import pins
from pyswiftops.specs.fleet import Fleet

IMAGE = "swiftops-bench-node:4"
PACKAGES = (
    "openssh-server,openssl,python3,python3-xxhash,pdsh,genders,procps,sudo,rsync,"
    "libfaketime"  # for nodes whose clock is wrong
)
SSHD_CONFIG = """\
Port 2333
HostKey /etc/swiftops/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys /etc/swiftops/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 300
Subsystem sftp internal-sftp
"""
START = "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f /etc/swiftops/sshd_config"


def run(*argv: str) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Nodes:
    """A fleet of throwaway nodes.

    Attributes:
        folder: Everything of it on this machine.
        fleet: Its fleet file, as Ansible reads it.
        image: What the containers are made of; one with all that :data:`IMAGE` has.
        volumes: Further mounts, as docker takes them.
        options: Node to further words for its docker run.
    """

    folder: Path
    fleet: Fleet
    image: str = IMAGE
    volumes: tuple[str, ...] = ()
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def inventory(self) -> Path:
        """The fleet file."""
        return self.folder / "fleet.yml"

    @property
    def state(self) -> Path:
        """The controller's folder of the fleet."""
        return self.folder / "state"

    @property
    def names(self) -> list[str]:
        """In rank order."""
        return [node.name for node in self.fleet.nodes]

    def inside(self, node: str, *argv: str) -> str:
        """Run a program in a container; return what it printed."""
        return run("docker", "exec", f"swiftops-{self.fleet.name}-{node}", *argv)

    def fresh(self) -> None:
        """Take all containers away and start new ones."""
        remove(self.fleet.name)
        shutil.rmtree(self.folder / "etc")
        (self.state / pins.KNOWN_HOSTS).unlink()
        start(self)

    def environment(self) -> dict[str, str]:
        """For ansible-playbook."""
        return {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }


def image() -> None:
    """Make the image, where there is none."""
    known = subprocess.run(
        ["docker", "image", "inspect", IMAGE], check=False, capture_output=True
    ).returncode
    if known == 0:
        return
    with tempfile.TemporaryDirectory(prefix="swiftops-image-") as folder:
        root = Path(folder) / "root"
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
        for key in root.glob("etc/ssh/ssh_host_*"):
            key.unlink()  # every node has its own, and no image has any
        run("tar", "-C", str(root), "-cf", f"{folder}/image.tar", ".")
        run("docker", "import", f"{folder}/image.tar", IMAGE)


def start(nodes: Nodes) -> None:
    """Make network and containers, and wait until all answer."""
    fleet = nodes.fleet
    assert fleet.container is not None
    network: Any = fleet.container.network
    label = f"swiftops.fleet={fleet.name}"
    name = f"swiftops-{fleet.name}"
    run("docker", "network", "create", "--label", label, "--subnet", network.subnet, name)
    for node in fleet.nodes:
        own = nodes.folder / "etc" / node.name
        if not own.exists():
            seed(nodes, node.name, own)
        words = ["--init", "--label", label, "--name", f"{name}-{node.name}"]
        words += ["--hostname", node.name, "--network", name, "--ip", str(fleet.address(node))]
        for volume in (f"{own}:/etc/swiftops", *nodes.volumes):
            words += ["-v", volume]
        words += [*nodes.options.get(node.name, ()), nodes.image, "sh", "-c", START]
        run("docker", "run", "-d", *words)
    for node in fleet.nodes:
        await_port(str(fleet.address(node)))


def await_port(address: str, port: int = 2333) -> None:
    """Wait until something listens."""
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
        except OSError:
            assert time.monotonic() < end, f"nothing listens at {address}:{port}"
            time.sleep(0.1)
        else:
            return


def seed(nodes: Nodes, name: str, own: Path) -> None:
    """What a node has before its first start; its host key becomes pinned."""
    own.mkdir(parents=True)
    (own / "sshd_config").write_text(SSHD_CONFIG, encoding="utf-8")
    shutil.copy(nodes.state / f"{pins.KEY}.pub", own / "authorized_keys")
    key = own / "ssh_host_ed25519_key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key))
    alias = nodes.fleet.state_folder.alias(name)
    pins.pin(nodes.state, {alias: key.with_suffix(".pub").read_text(encoding="utf-8")})


def remove(fleet: str) -> None:
    """Remove what carries the fleet's label."""
    label = f"label=swiftops.fleet={fleet}"
    found = run("docker", "ps", "-aq", "--filter", label).split()
    if found:
        run("docker", "rm", "-f", *found)
    for network in run("docker", "network", "ls", "-q", "--filter", label).split():
        run("docker", "network", "rm", network)


@contextmanager
def container_nodes(
    count: int,
    fleet: str,
    subnet: str,
    names: Sequence[str] = (),
    *,
    of: str = IMAGE,
    volumes: Sequence[str] = (),
    options: Mapping[str, Sequence[str]] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Iterator[Nodes]:
    """Start nodes; take everything of them away at the end."""
    image()
    remove(fleet)
    folder = Path(tempfile.mkdtemp(prefix="swiftops-n-", dir="/tmp"))
    try:
        document = {
            "plugin": "pyswiftops.fleet.fleet",
            "name": fleet,
            "runtime": "container",
            "device": "cpu",
            "state": str(folder / "state"),
            "hosts": [{"name": "host-1"}],
            "container": {
                "image": {"build": {"wheelhouse": str(folder)}},
                "network": {"subnet": subnet},
            },
            "nodes": [{"name": name} for name in names or [f"node-{n + 1}" for n in range(count)]],
            **(more or {}),
        }
        (folder / "fleet.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
        nodes = Nodes(folder, Fleet.load(folder / "fleet.yml"), of, tuple(volumes), options or {})
        pins.make_key(nodes.state, fleet)
        start(nodes)
        yield nodes
    finally:
        remove(fleet)
        shutil.rmtree(folder)
