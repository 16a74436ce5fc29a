"""How nodes find each other: pure text from a list of nodes, each made once for the fleet."""

from __future__ import annotations

import base64
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyswiftops.errors import Finding, FleetError

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]*")
_NO_WORD = ("proxycommand", "localcommand")  # their value is the rest of the line
_HEAD = "# Made by pyswiftops; changes are lost.\n"


@dataclass(frozen=True)
class Peer:
    """A node as other nodes see it.

    Attributes:
        name: What it is called everywhere.
        address: Where its sshd is found.
        port: Of its sshd.
        user: Who logs in.
        alias: What its host key is pinned under.
        slots: Training ranks that it runs.
        training: Where its ranks are found, if that is another address.
        key: The controller's private key for it, where one is named.
        options: How the controller's ssh reaches it besides, as NAME=value.
    """

    name: str
    address: str
    port: int
    user: str
    alias: str
    slots: int
    training: str = ""
    key: str | None = None
    options: tuple[str, ...] = ()


def peers(variables: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[dict[str, Any]]:
    """The nodes of an inventory, in rank order.

    Args:
        variables: Ansible's ``hostvars``.
        names: The group of the nodes.
    """
    return [asdict(_peer(str(name), variables[name])) for name in names]


def _peer(name: str, known: Mapping[str, Any]) -> Peer:
    fleet = known.get("swiftops_fleet_name") or "fleet"
    texts = {
        "name": name,
        "ansible_host": str(known.get("ansible_host") or known.get("swiftops_address") or name),
        "swiftops_address": str(known.get("swiftops_address") or known.get("ansible_host") or name),
        "ansible_user": str(known.get("ansible_user") or "root"),
        "swiftops_fleet_name": str(fleet),
    }
    for variable, text in texts.items():
        if not _PLAIN.fullmatch(text):
            raise FleetError(
                Finding(
                    "letters, digits, dashes, dots, underscores or an IP address",
                    repr(text),
                    f"{name}: {variable}",
                    "correct it in the inventory",
                )
            )
    key = known.get("ansible_ssh_private_key_file")
    return Peer(
        name=name,
        address=texts["ansible_host"],
        port=int(known.get("ansible_port") or 22),
        user=texts["ansible_user"],
        alias=f"swiftops-{fleet}-{name}",
        slots=int(known.get("swiftops_ranks") or 1),
        training=texts["swiftops_address"],
        key=str(key) if key else None,
        options=tuple(_options(str(known.get("ansible_ssh_args") or ""))),
    )


def _options(arguments: str) -> list[str]:
    """What follows each -o, but for the connections that Ansible keeps for itself."""
    words = shlex.split(arguments)
    given = [word for before, word in zip(["", *words], words, strict=False) if before == "-o"]
    return [option for option in given if not option.startswith("Control")]


def ssh_config(nodes: Sequence[Mapping[str, Any]], key: str, known_hosts: str) -> str:
    """An ssh_config with an alias for each node; host keys are pinned.

    Args:
        nodes: As :func:`peers` returns them.
        key: The private key, where the file is read.
        known_hosts: The pinned host keys, where the file is read.
    """
    by_address = _by_address(nodes)
    names = " ".join([*(node["name"] for node in nodes), *by_address])
    own = [f"Host {node['name']}\n  HostName {node['address']}\n{_own(node)}" for node in nodes] + [
        f"Host {address}\n{_own(node)}" for address, node in by_address.items()
    ]
    common = (
        f"Host {names}\n"
        f"  IdentityFile {_quoted(key)}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {_quoted(known_hosts)}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  UpdateHostKeys no\n"
        "  ConnectTimeout 15\n"
        "  ServerAliveInterval 15\n"
    )
    return f"{_HEAD}{''.join(own)}{common}"


def _own(node: Mapping[str, Any]) -> str:
    return f"  Port {node['port']}\n  User {node['user']}\n  HostKeyAlias {node['alias']}\n"


def _by_address(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Address -> node, of those that one node has for itself: copies name nodes so."""
    count: Counter[str] = Counter()
    found: dict[str, Mapping[str, Any]] = {}
    for node in nodes:
        for address in {node["address"], node["training"]} - {node["name"], ""}:
            count[address] += 1
            found[address] = node
    return {address: node for address, node in sorted(found.items()) if count[address] == 1}


def controller_config(nodes: Sequence[Mapping[str, Any]]) -> str:
    """An ssh_config for the controller: as Ansible reaches the nodes."""
    return _HEAD + "".join(
        f"Host {node['name']}\n"
        f"  HostName {node['address']}\n"
        f"  Port {node['port']}\n"
        f"  User {node['user']}\n"
        + (f"  IdentityFile {_quoted(node['key'])}\n" if node["key"] else "")
        + "".join(f"  {_option(option)}\n" for option in node["options"])
        for node in nodes
    )


def _option(option: str) -> str:
    name, _, value = option.partition("=")
    return f"{name} {value if name.lower() in _NO_WORD else _quoted(value)}"


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def genders(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A genders file: every node has the attribute ``nodes``, its rank and its slots."""
    return "".join(
        f"{node['name']} nodes,rank={rank},slots={node['slots']}\n"
        for rank, node in enumerate(nodes)
    )


def hostfile(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A hostfile of DeepSpeed and Open MPI, in rank order."""
    return "".join(f"{node['name']} slots={node['slots']}\n" for node in nodes)


def wcoll(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A file of names for pdsh's WCOLL."""
    return "".join(f"{node['name']}\n" for node in nodes)


def read_keys(
    variables: Mapping[str, Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Alias -> public host key, of the nodes that it was read from (``ssh_mesh_read``)."""
    found = {}
    for node in nodes:
        content = variables[node["name"]].get("ssh_mesh_read", {}).get("content")
        if content:
            found[node["alias"]] = base64.b64decode(content).decode().strip()
    return found


def all_pinned(keys: Mapping[str, Any]) -> bool:
    """Whether the answer of ``fleet_keys`` names no node without a pinned host key."""
    return not keys["unpinned"]


def mesh_changed(
    variables: Mapping[str, Mapping[str, Any]], names: Iterable[str], prove: str
) -> bool:
    """Whether pairs are to be proven: as asked for, or where something of the mesh changed."""
    if prove != "auto":
        return prove == "always"
    done = [variables[name].get("settings_done", {}) for name in names]
    changed = [item for one in done for item in one.get("resources", []) if item["changed"]]
    return any(item["id"].startswith(("ssh_mesh.", "sshd.")) for item in changed)
