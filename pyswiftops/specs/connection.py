"""How Ansible, and ssh by hand, reach a machine: pure functions of the fleet file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from pyswiftops.specs.document import Model
from pyswiftops.specs.texts import Jump, Text, User

_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_OWN_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_KEPT = ("ControlMaster=auto", "ControlPersist=300s", "ServerAliveInterval=15")


class Ssh(Model):
    """How the controller logs in to machines.

    Source: ssh_config(5); every field becomes the Ansible connection variable of that name.
    """

    user: User = Field(default="root", description="Login name.")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Default 2333 for containers, 22 for hosts."
    )
    private_key: Text | None = Field(default=None, description="Path of the private key.")
    proxy_jump: Jump | None = Field(
        default=None, description="Bastion in the form user@host[:port][,...]."
    )
    options: dict[str, Text] = Field(
        default_factory=dict, description="More ssh_config options, name to value."
    )

    @field_validator("options")
    @classmethod
    def _checks_stay_on(cls, options: dict[str, str]) -> dict[str, str]:
        for name, value in options.items():
            if not _OPTION.fullmatch(name):
                raise ValueError(f"names of ssh_config options; {name!r} is none")
            off = value.strip("\"'").lower() in {"no", "off", "false"}
            if name.lower() == "stricthostkeychecking" and off:
                raise ValueError(
                    "StrictHostKeyChecking stays on: pin the host keys in known_hosts instead"
                )
        return options

    def identities(self, fleet_key: str) -> list[str]:
        """Options (NAME=value): keys to try where none is named; ours is there after a first login.

        ssh tries its own only as long as no other is named.
        """
        if self.private_key:
            return []
        own = [
            path for path in _OWN_KEYS if Path(path).expanduser().exists()
        ]  # ssh warns of others
        return [f"IdentityFile={path}" for path in (*own, fleet_key)]

    @property
    def key(self) -> str | None:
        """Absolute path of the private key."""
        return str(Path(self.private_key).expanduser()) if self.private_key else None

    def jump(self) -> list[str]:
        """Options (NAME=value) that lead through the bastion."""
        return [f"ProxyJump={self.proxy_jump}"] if self.proxy_jump else []

    def given(self) -> list[str]:
        """Options (NAME=value) that the file adds."""
        return [f"{name}={value}" for name, value in self.options.items()]

    def command_through(self, address: str, port: int) -> str:
        """A ProxyCommand that reaches a port behind a machine; what it is told it does itself."""
        words = ["ssh", "-W", "[%h]:%p", "-p", str(port), "-l", self.user]
        words += ["-i", self.key] if self.key else []
        for option in [*self.jump(), *self.given()]:
            words += ["-o", option]
        return shlex.join([*words, address])


def passwords() -> dict[str, Any]:
    """What swiftops up asks for, and hands over in a file of mode 0600 that does not stay."""
    return {
        "ansible_password": "{{ swiftops_host_password | default('') }}",
        "ansible_become_password": "{{ swiftops_become_password | default('') }}",
    }


def here() -> dict[str, Any]:
    """Ansible's connection variables for this machine."""
    return {"ansible_connection": "local", "ansible_pipelining": True}


def variables(
    address: str | None, port: int, user: str, options: Sequence[str], key: str | None
) -> dict[str, Any]:
    """Ansible's connection variables for a machine reached by ssh."""
    arguments = [f"-o {option}" for option in _KEPT]
    arguments += [f"-o {quoted(option)}" for option in options]
    found: dict[str, Any] = {
        "ansible_connection": "ssh",
        "ansible_host": address,
        "ansible_port": port,
        "ansible_user": user,
        "ansible_pipelining": True,
        "ansible_ssh_args": " ".join(arguments),
    }
    if key:
        found["ansible_ssh_private_key_file"] = key
    return found


def quoted(option: str) -> str:
    """Quote the value of NAME=value for Ansible, which splits its arguments like a shell."""
    name, _, value = option.partition("=")
    return f"{name}='" + value.replace("'", "'\\''") + "'"


@dataclass(frozen=True)
class FleetState:
    """What the controller keeps of a fleet that it made: its key, and whom it may trust.

    Attributes:
        root: The folder, mode 0700.
        fleet: The fleet's name.
    """

    root: str
    fleet: str

    @property
    def key(self) -> str:
        """The fleet's private key."""
        return f"{self.root}/id_ed25519"

    @property
    def known_hosts(self) -> str:
        """The nodes' host keys, taken from their containers and pinned."""
        return f"{self.root}/known_hosts"

    def alias(self, node: str) -> str:
        """The name that a node's host key is pinned under, whatever its address."""
        return f"swiftops-{self.fleet}-{node}"

    def options(self, node: str) -> list[str]:
        """Options (NAME=value) with which ssh trusts this node and no other."""
        return [
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.known_hosts}",
            f"HostKeyAlias={self.alias(node)}",
        ]
