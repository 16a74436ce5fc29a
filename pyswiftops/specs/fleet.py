"""The fleet file: which machines, how nodes exist on them, and how they reach each other."""

from __future__ import annotations

import os
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from pyswiftops.errors import Finding, FleetError
from pyswiftops.specs import connection, consistency
from pyswiftops.specs.connection import FleetState, Ssh
from pyswiftops.specs.container import Bridge, Container, Host, label
from pyswiftops.specs.document import Model, validate
from pyswiftops.specs.environment import Environment
from pyswiftops.specs.preflight import Preflight
from pyswiftops.specs.reading import read_yaml
from pyswiftops.specs.sources import HubAccess
from pyswiftops.specs.texts import Address, Interface, Network, Text

PLUGIN = "pyswiftops.fleet.fleet"
GROUP = "swiftops_nodes"
HOSTS = "swiftops_hosts"
LOOPBACK = "127.0.0.1"
MOST_GPUS = 128  # of one node
NETWORK_FILE = "/etc/swiftops/nccl.env"  # what a node trains over, as the role nccl writes it
NODE_PYTHON = "/opt/swift/bin/python"  # of the images that we build


class Runtime(StrEnum):
    """How nodes exist."""

    CONTAINER = "container"
    HOST = "host"
    LOCAL = "local"


class Node(Model):
    """Where training ranks run."""

    name: str = Field(description="Unique; letters, digits and dashes, as in a host name.")
    host: str | None = Field(
        default=None, description="Which of hosts runs its container; default: the only one."
    )
    address: Address | None = Field(
        default=None, description="Address for SSH; not for local nodes."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="SSH port of this node.")
    training_address: Address | None = Field(
        default=None, description="Address on the training network; default: address."
    )
    training_interface: Interface | None = Field(
        default=None, description="Interface NCCL and Gloo use on this node; default: the fleet's."
    )
    root: Text | None = Field(default=None, description="The node's own directory, absolute.")
    gpus: int | list[int] | None = Field(
        default=None, description="How many GPUs, or which; one rank each. CPU nodes have one rank."
    )
    python: Text | None = Field(
        default=None, description="The Python that ms-swift is installed in."
    )
    spare: bool = Field(
        default=False, description="In no run until it takes the place of a node that is lost."
    )

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, name: str) -> str:
        return label(name)

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
    line: Text = Field(
        default="4.6", description="The ms-swift release line on the nodes, or auto: theirs."
    )
    version: Text | None = Field(
        default=None,
        description="The exact version on the nodes, where it is no release of the line.",
    )
    root: Text = Field(
        default="/data/swiftops", description="Parent of the nodes' own directories."
    )
    python: Text | None = Field(default=None, description="Default of every node's python.")
    cpu_threads: int = Field(
        default=1, ge=1, le=4096, description="Threads of a rank on CPU nodes."
    )
    env: Environment = Field(
        default_factory=dict,
        description="Variables of every job on every node, e.g. MEGATRON_LM_PATH.",
    )
    shared_paths: list[Text] = Field(
        default_factory=list, description="Folders that are the same on all nodes."
    )
    training_network: Network | None = Field(
        default=None, description="CIDR that every training_address must lie in."
    )
    training_interface: Interface | None = Field(
        default=None,
        description="Interface NCCL and Gloo use; default: that of the routes to other nodes.",
    )
    trusted_network: bool = Field(default=False, description="Checkpoints need no encryption.")
    ssh: Ssh = Field(default_factory=Ssh, description="How the controller logs in to nodes.")
    host_ssh: Ssh = Field(default_factory=Ssh, description="How it logs in to hosts.")
    hosts: list[Host] = Field(
        default_factory=list,
        description="Machines that containers are made on; without any, nodes are there already.",
    )
    container: Container | None = Field(
        default=None, description="What the containers are like; goes with hosts."
    )
    state: Text | None = Field(
        default=None, description="The controller's folder of this fleet: its key, known hosts."
    )
    hub: HubAccess = Field(default_factory=HubAccess, description="How hubs are reached.")
    preflight: Preflight = Field(
        default_factory=Preflight,
        exclude=True,  # no part of a plan, which stays the same
        description="How nodes are looked at before a launch.",
    )
    nodes: list[Node] = Field(
        min_length=1, description="In rank order: the first is rank 0. Spares have no rank."
    )

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, name: str) -> str:
        return label(name)

    @field_validator("nodes")
    @classmethod
    def _names_are_unique(cls, nodes: list[Node]) -> list[Node]:
        twice = [name for name, count in Counter(node.name for node in nodes).items() if count > 1]
        if twice:
            raise ValueError(f"unique node names; duplicate node {', '.join(twice)}")
        return nodes

    @model_validator(mode="after")
    def _nodes_stand_apart(self) -> Fleet:
        problems = list(consistency.problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

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
        update = {
            "hub": fleet._hub_from_folder(path.parent),  # noqa: SLF001 its own class
            **fleet._made_from_folder(path.parent),  # noqa: SLF001 its own class
        }
        fleet = fleet.model_copy(update=update)
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

    def _made_from_folder(self, folder: Path) -> dict[str, Any]:
        """What of a fleet that we make lies on this machine, taken from ``folder``."""

        def absolute(path: str) -> str:
            return str((folder / Path(path).expanduser()).resolve())

        update: dict[str, Any] = {"state": absolute(self.state)} if self.state else {}
        if self.container is None:
            return update
        image = self.container.image
        if image.archive:
            image = image.model_copy(update={"archive": absolute(image.archive)})
        if image.build:
            build = {"wheelhouse": absolute(image.build.wheelhouse)}
            image = image.model_copy(update={"build": image.build.model_copy(update=build)})
        return {**update, "container": self.container.model_copy(update={"image": image})}

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

    @property
    def members(self) -> list[Node]:
        """The nodes that runs use, in rank order."""
        return [node for node in self.nodes if not node.spare]

    @property
    def spares(self) -> list[Node]:
        """The nodes that wait for one to be lost."""
        return [node for node in self.nodes if node.spare]

    def everyone(self) -> Fleet:
        """The fleet with its spares as nodes like the others: what is provisioned and looked at."""
        nodes = [node.model_copy(update={"spare": False}) for node in self.nodes]
        return self.model_copy(update={"nodes": nodes})

    def node_root(self, node: Node) -> str:
        """The node's own directory: its ``root``, or ``<fleet root>/<name>``."""
        return node.root or str(Path(self.root) / node.name)

    def ranks(self, node: Node) -> int:
        """How many training ranks the node runs: one a GPU, one on CPU."""
        if self.device == "cpu" or node.gpus is None:
            return 1
        return node.gpus if isinstance(node.gpus, int) else len(node.gpus)

    def host_vars(self) -> dict[str, dict[str, Any]]:
        """Ansible variables of every node but spares, in rank order; an inventory sets the same.

        Returns:
            node name -> variables. ``docs/reference/fleet.md`` lists them.
        """
        roots = {node.name: self.node_root(node) for node in self.nodes}
        return {
            node.name: self._connection(node)
            | self._of_fleet()
            | {
                "swiftops_runtime": self.runtime.value,
                "swiftops_host": self.host_of(node).name if self.hosts else None,
                "swiftops_rank": rank,
                "swiftops_ranks": self.ranks(node),
                "swiftops_gpus": self._gpus_inside(node),
                "swiftops_cpu_threads": self.cpu_threads,
                "swiftops_env": dict(self.env),
                "swiftops_root": roots[node.name],
                "swiftops_python": self._python(node),
                "swiftops_address": self.address_in_training(node),
                "swiftops_interface": node.training_interface or self._interface(),
                "swiftops_network_file": "" if self.runtime is Runtime.LOCAL else NETWORK_FILE,
                "swiftops_trusted_network": self.trusted_network,
                "swiftops_hub": self.hub.model_dump(mode="json", exclude_defaults=True),
                "swiftops_shared_paths": list(self.shared_paths),
                "swiftops_hidden_paths": [
                    root for other, root in roots.items() if other != node.name
                ]
                if self.runtime is Runtime.LOCAL
                else [],
            }
            for rank, node in enumerate(self.members)
        }

    def machine_vars(self) -> dict[str, dict[str, Any]]:
        """Ansible variables of every host that containers are made on.

        Returns:
            host name -> variables. ``docs/reference/fleet.md`` lists them.
        """
        if self.container is None:
            return {}
        settings = self.container.settings(self.name)
        return {
            host.name: self._host_connection(host)
            | self._of_fleet()
            | {
                "swiftops_container": settings,
                "swiftops_host_nodes": [
                    {
                        "name": node.name,
                        "address": self.address(node),
                        "port": self.port(node),
                        "gpus": self.gpu_list(node),
                        "root": self.node_root(node),
                    }
                    for node in self.nodes
                    if self.host_of(node) == host
                ],
            }
            for host in self.hosts
        }

    def _of_fleet(self) -> dict[str, Any]:
        return {
            "swiftops_fleet_name": self.name,
            "swiftops_device": self.device,
            "swiftops_line": self.line,
            "swiftops_version": self.version,
            "swiftops_state": self.state_folder.root,
        }

    @property
    def state_folder(self) -> FleetState:
        """What the controller keeps of the fleet."""
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        return FleetState(self.state or str(data / "pyswiftops" / "fleets" / self.name), self.name)

    def host_of(self, node: Node) -> Host:
        """The host that a node's container is made on; only of a fleet with hosts."""
        if node.host is None:
            return self.hosts[0]
        return next(host for host in self.hosts if host.name == node.host)

    def address(self, node: Node) -> str | None:
        """Where SSH finds a node; None where the file does not say."""
        if node.address or self.container is None or not self.hosts:
            return node.address
        if isinstance(self.container.network, Bridge):
            return self.container.network.address(self.nodes.index(node))
        return self.host_of(node).address or LOOPBACK

    def address_in_training(self, node: Node) -> str:
        """Where other nodes find a node's ranks."""
        return node.training_address or self.address(node) or LOOPBACK

    def gpu_list(self, node: Node) -> list[int]:
        """A node's GPUs as its machine counts them; none on CPU, and where they are not named."""
        if self.device == "cpu" or node.gpus is None:
            return []
        return list(range(node.gpus)) if isinstance(node.gpus, int) else list(node.gpus)

    def _gpus_inside(self, node: Node) -> list[int]:
        """As the node counts them: a container that we make has only its own, from 0."""
        gpus = self.gpu_list(node)
        return list(range(len(gpus))) if self.hosts else gpus

    def _interface(self) -> str | None:
        if self.training_interface is None and self.runtime is Runtime.LOCAL:
            return "lo"
        if self.training_interface is None and self.container is not None:
            return "eth0" if isinstance(self.container.network, Bridge) else None
        return self.training_interface

    def _python(self, node: Node) -> str:
        fallback = sys.executable if self.runtime is Runtime.LOCAL else "/usr/bin/python3"
        if self.container is not None and self.container.image.build is not None:
            fallback = NODE_PYTHON
        return node.python or self.python or fallback

    def port(self, node: Node) -> int:
        """The port of a node's sshd."""
        default = 2333 if self.runtime is Runtime.CONTAINER else 22
        return node.port or self.ssh.port or default

    def _connection(self, node: Node) -> dict[str, Any]:
        if self.runtime is Runtime.LOCAL:
            return {**connection.here(), "ansible_python_interpreter": sys.executable}
        ssh, state = self.ssh, self.state_folder
        options, key = [*ssh.jump(), *ssh.given()], ssh.key
        if self.runtime is Runtime.HOST:
            options += ssh.identities(state.key)
        if self.hosts:
            host = self.host_of(node)
            options, key = [*ssh.given(), *state.options(node.name)], key or state.key
            behind = self.container is not None and isinstance(self.container.network, Bridge)
            if host.address and behind:
                command = self.host_ssh.command_through(host.address, self._host_port(host))
                options.append(f"ProxyCommand={command}")
            else:
                options += ssh.jump()
        made = connection.variables(self.address(node), self.port(node), ssh.user, options, key)
        return made | (connection.passwords() if self.runtime is Runtime.HOST else {})

    def _host_port(self, host: Host) -> int:
        return host.port or self.host_ssh.port or 22

    def _host_connection(self, host: Host) -> dict[str, Any]:
        if host.address is None:
            return {**connection.here(), "ansible_python_interpreter": sys.executable}
        ssh = self.host_ssh
        port, options = self._host_port(host), [*ssh.jump(), *ssh.given()]
        options += ssh.identities(self.state_folder.key)
        return (
            connection.variables(host.address, port, ssh.user, options, ssh.key)
            | connection.passwords()
            | {"ansible_become": ssh.user != "root"}
        )
