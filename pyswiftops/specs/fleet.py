"""The fleet file: which machines, how nodes exist on them, and how they reach each other."""

from __future__ import annotations

import getpass
import ipaddress
import itertools
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from pyswiftops.errors import Finding, FleetError
from pyswiftops.specs.document import Model, validate
from pyswiftops.specs.reading import read_yaml
from pyswiftops.specs.sources import HubAccess
from pyswiftops.specs.texts import Address, Interface, Jump, Network, Text, User

PLUGIN = "pyswiftops.fleet.fleet"
GROUP = "swiftops_nodes"
LOOPBACK = "127.0.0.1"
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9]*")
MOST_GPUS = 128  # of one node
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Runtime(StrEnum):
    """How nodes exist."""

    CONTAINER = "container"
    HOST = "host"
    LOCAL = "local"


class Ssh(Model):
    """How the controller logs in to nodes.

    Source: ssh_config(5); every field becomes the Ansible connection variable of that name.
    """

    user: User = Field(default="root", description="Login name on the nodes.")
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


class Node(Model):
    """Where training ranks run."""

    name: str = Field(description="Unique; letters, digits and dashes, as in a host name.")
    address: Address | None = Field(
        default=None, description="Address for SSH; not for local nodes."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="SSH port of this node.")
    training_address: Address | None = Field(
        default=None, description="Address on the training network; default: address."
    )
    root: Text | None = Field(default=None, description="The node's own directory, absolute.")
    gpus: int | list[int] | None = Field(
        default=None, description="How many GPUs, or which; one rank each. CPU nodes have one rank."
    )
    python: Text | None = Field(
        default=None, description="The Python that ms-swift is installed in."
    )

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a host name label: lower-case letters, digits, dashes, at most 63")
        return name

    @field_validator("gpus")
    @classmethod
    def _at_least_one(cls, gpus: int | list[int] | None) -> int | list[int] | None:
        if (isinstance(gpus, int) and gpus < 1) or gpus == []:
            raise ValueError("at least one GPU (leave gpus out on CPU nodes)")
        if isinstance(gpus, list) and (len(set(gpus)) < len(gpus) or min(gpus) < 0):
            raise ValueError("GPU numbers, each once, none negative")
        most = (max(gpus) if isinstance(gpus, list) else gpus or 0) if gpus else 0
        if most > MOST_GPUS:
            raise ValueError(f"at most {MOST_GPUS} GPUs a node")
        return gpus


class Fleet(Model):
    """The machines, in rank order, described by one inventory file.

    ``Fleet.load("fleet.yml")`` reads and validates a file; Ansible reads the same file through
    the inventory plugin ``pyswiftops.fleet.fleet``.
    """

    plugin: Literal["pyswiftops.fleet.fleet"] = Field(description="Always the first line.")
    name: str = Field(default="fleet", description="The fleet's name; labels what it owns.")
    runtime: Runtime = Field(description="container, host or local.")
    device: Literal["gpu", "cpu"] = Field(default="gpu", description="cpu hides GPUs.")
    line: Text = Field(default="4.6", description="The ms-swift release line on the nodes.")
    root: Text = Field(
        default="/data/swiftops", description="Parent of the nodes' own directories."
    )
    python: Text | None = Field(default=None, description="Default of every node's python.")
    cpu_threads: int = Field(
        default=1, ge=1, le=4096, description="Threads of a rank on CPU nodes."
    )
    shared_paths: list[Text] = Field(
        default_factory=list, description="Folders that are the same on all nodes."
    )
    training_network: Network | None = Field(
        default=None, description="CIDR that every training_address must lie in."
    )
    training_interface: Interface | None = Field(
        default=None, description="Interface NCCL and Gloo use; lo on local fleets."
    )
    ssh: Ssh = Field(default_factory=Ssh)
    hub: HubAccess = Field(default_factory=HubAccess, description="How hubs are reached.")
    nodes: list[Node] = Field(min_length=1, description="In rank order: the first is rank 0.")

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a host name label: lower-case letters, digits, dashes, at most 63")
        return name

    @field_validator("nodes")
    @classmethod
    def _names_are_unique(cls, nodes: list[Node]) -> list[Node]:
        twice = [name for name, count in Counter(node.name for node in nodes).items() if count > 1]
        if twice:
            raise ValueError(f"unique node names; duplicate node {', '.join(twice)}")
        return nodes

    @model_validator(mode="after")
    def _nodes_stand_apart(self) -> Fleet:
        problems = [*self._paths(), *self._addresses(), *self._gpus_of_one_machine()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _paths(self) -> Iterator[str]:
        roots = [(node.name, posixpath.normpath(self.node_root(node))) for node in self.nodes]
        if self.runtime is not Runtime.LOCAL:
            relative = [name for name, root in roots if not root.startswith("/")]
            if relative:
                yield f"absolute roots; not so on {', '.join(relative)}"
            mirror = self.hub.mirror if self.hub.mirror_at == "first_node" else None
            if mirror and mirror[0] != "/":
                yield "an absolute hub.mirror, as it lies on the first node"
        whole = [name for name, root in roots if root.strip("/.") == ""]
        if whole:
            yield f"roots below a folder of their own; not so on {', '.join(whole)}"
        by_root = sorted((root, name) for name, root in roots)
        for (root, name), (other_root, other) in itertools.pairwise(by_root):
            if root == other_root:
                yield f"a root of its own for every node; {name} and {other} share {root}"
            if self.runtime is Runtime.LOCAL and other_root.startswith(f"{root}/"):
                yield f"roots beside each other; that of {other} lies in that of {name}"

    def _addresses(self) -> Iterator[str]:
        if self.runtime is not Runtime.LOCAL:
            missing = [node.name for node in self.nodes if not node.address]
            if missing:
                names = ", ".join(missing)
                yield f"an address for every node of runtime {self.runtime.value}; none for {names}"
            seen: dict[tuple[str | None, int], str] = {}
            for node in self.nodes:
                place = (node.address, self._port(node))
                if place in seen:
                    yield f"an address and port of its own; {seen[place]} and {node.name} share one"
                seen[place] = node.name
        if self.training_network is None:
            return
        network = ipaddress.ip_network(self.training_network, strict=False)
        for node in self.nodes:
            address = node.training_address or node.address or LOOPBACK
            try:
                inside = ipaddress.ip_address(address) in network
            except ValueError:
                yield f"training addresses as numbers inside {network}; {node.name} has {address}"
                continue
            if not inside:
                yield f"training addresses inside {network}; {node.name} has {address}"

    def _gpus_of_one_machine(self) -> Iterator[str]:
        """Local nodes that name their GPUs must not share one: NCCL refuses that."""
        if self.runtime is not Runtime.LOCAL or self.device == "cpu":
            return
        owner: dict[int, str] = {}
        for node in self.nodes:
            for gpu in self._gpu_list(node):
                if gpu in owner:
                    both = f"{owner[gpu]} and {node.name}"
                    yield f"GPUs of its own for every node; {both} share {gpu}"
                owner[gpu] = node.name

    @classmethod
    def load(cls, path: str | Path) -> Fleet:
        """Read a fleet file; relative local roots are taken from the file's folder.

        Args:
            path: The fleet file (YAML, first line ``plugin: pyswiftops.fleet.fleet``).

        Raises:
            FleetError: the file is missing, not YAML, has no plugin line, names an unknown
                runtime or a node twice, or has an unknown key.
        """
        path = Path(path)
        document = read_yaml(path, FleetError, "fleet file")
        return cls.from_document(document, path)

    @classmethod
    def from_document(cls, document: dict[str, Any], path: Path) -> Fleet:
        """Validate a parsed fleet file that came from ``path``."""
        if document.get("plugin") != PLUGIN:
            found = f"plugin: {document['plugin']}" if "plugin" in document else "no plugin line"
            raise FleetError(
                Finding(
                    f"first line 'plugin: {PLUGIN}'",
                    found,
                    str(path),
                    f"write 'plugin: {PLUGIN}' at the top of the fleet file",
                )
            )
        known = [runtime.value for runtime in Runtime]
        if document.get("runtime") not in known:
            found = repr(document["runtime"]) if "runtime" in document else "no runtime"
            raise FleetError(
                Finding(
                    f"runtime: one of {', '.join(known)}",
                    found,
                    f"{path}: runtime",
                    "see docs/reference/fleet.md for what each runtime needs",
                )
            )
        fleet = validate(cls, document, str(path), FleetError)
        fleet = fleet.model_copy(update={"hub": fleet._hub_from_folder(path.parent)})  # noqa: SLF001 its own class
        if fleet.runtime is Runtime.LOCAL:
            fleet = fleet._from_folder(path.parent)  # noqa: SLF001 its own class
        return fleet

    def _from_folder(self, folder: Path) -> Fleet:
        """The same fleet with its paths taken from ``folder``."""

        def absolute(path: str) -> str:
            return str((folder / Path(path).expanduser()).resolve())

        nodes = [
            node.model_copy(update={"root": absolute(node.root)}) if node.root else node
            for node in self.nodes
        ]
        shared = [absolute(path) for path in self.shared_paths]
        update = {"root": absolute(self.root), "shared_paths": shared, "nodes": nodes}
        return self.model_copy(update=update)

    def _hub_from_folder(self, folder: Path) -> HubAccess:
        """Access to hubs, with paths of this machine taken from ``folder``."""
        hub, update = self.hub, {}
        if hub.tokens:
            update["tokens"] = str((folder / Path(hub.tokens).expanduser()).resolve())
        here = self.runtime is Runtime.LOCAL or hub.mirror_at == "controller"
        if hub.mirror and here:
            update["mirror"] = str((folder / Path(hub.mirror).expanduser()).resolve())
        return hub.model_copy(update=update)

    def to_yaml(self) -> str:
        """The fleet as a fleet file that Ansible reads, with absolute paths."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

    def node_root(self, node: Node) -> str:
        """The node's own directory: its ``root``, or ``<fleet root>/<name>``."""
        return node.root or str(Path(self.root) / node.name)

    def ranks(self, node: Node) -> int:
        """How many training ranks the node runs: one a GPU, one on CPU."""
        if self.device == "cpu" or node.gpus is None:
            return 1
        return node.gpus if isinstance(node.gpus, int) else len(node.gpus)

    def host_vars(self) -> dict[str, dict[str, Any]]:
        """Ansible variables of every node, in rank order; a hand-written inventory sets the same.

        Returns:
            node name -> variables. ``docs/reference/fleet.md`` lists them.
        """
        names = [node.name for node in self.nodes]
        roots = [self.node_root(node) for node in self.nodes]
        return {
            node.name: self._connection(node)
            | {
                "swiftops_fleet_name": self.name,
                "swiftops_runtime": self.runtime.value,
                "swiftops_device": self.device,
                "swiftops_line": self.line,
                "swiftops_rank": rank,
                "swiftops_ranks": self.ranks(node),
                "swiftops_gpus": self._gpu_list(node),
                "swiftops_cpu_threads": self.cpu_threads,
                "swiftops_root": roots[rank],
                "swiftops_python": self._python(node),
                "swiftops_address": node.training_address or node.address or LOOPBACK,
                "swiftops_interface": self._interface(),
                "swiftops_hub": self.hub.model_dump(mode="json", exclude_defaults=True),
                "swiftops_shared_paths": list(self.shared_paths),
                "swiftops_hidden_paths": [
                    root for other, root in zip(names, roots, strict=True) if other != node.name
                ]
                if self.runtime is Runtime.LOCAL
                else [],
            }
            for rank, node in enumerate(self.nodes)
        }

    def _gpu_list(self, node: Node) -> list[int]:
        if self.device == "cpu" or node.gpus is None:
            return []
        return list(range(node.gpus)) if isinstance(node.gpus, int) else list(node.gpus)

    def _interface(self) -> str | None:
        if self.training_interface is None and self.runtime is Runtime.LOCAL:
            return "lo"
        return self.training_interface

    def _python(self, node: Node) -> str:
        fallback = sys.executable if self.runtime is Runtime.LOCAL else "/usr/bin/python3"
        return node.python or self.python or fallback

    def _port(self, node: Node) -> int:
        default = 2333 if self.runtime is Runtime.CONTAINER else 22
        return node.port or self.ssh.port or default

    def _connection(self, node: Node) -> dict[str, Any]:
        if self.runtime is Runtime.LOCAL:
            return {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "ansible_pipelining": True,
            }
        ssh = self.ssh
        arguments = ["-o ControlMaster=auto", "-o ControlPersist=300s", "-o ServerAliveInterval=15"]
        if ssh.proxy_jump:
            arguments.append(f"-o ProxyJump={_quoted(ssh.proxy_jump)}")
        arguments += [f"-o {name}={_quoted(value)}" for name, value in ssh.options.items()]
        variables: dict[str, Any] = {
            "ansible_connection": "ssh",
            "ansible_host": node.address,
            "ansible_port": self._port(node),
            "ansible_user": ssh.user or getpass.getuser(),
            "ansible_pipelining": True,
            "ansible_ssh_args": " ".join(arguments),
        }
        if ssh.private_key:
            variables["ansible_ssh_private_key_file"] = str(Path(ssh.private_key).expanduser())
        return variables


def _quoted(value: str) -> str:
    """Quote an ssh option value for Ansible, which splits ``ansible_ssh_args`` like a shell."""
    return "'" + value.replace("'", "'\\''") + "'"
