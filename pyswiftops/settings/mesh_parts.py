"""The files by which a node finds the others, as the module ``converge`` takes them.

One filter makes the whole part of a role, so that a node's worker compiles one template and not
one for each file.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pyswiftops.settings import mesh

Part = dict[str, list[dict[str, Any]]]


def mesh_part(
    fleet: Mapping[str, Any], user: str, folder: str, key: str | None, more: Sequence[str]
) -> Part:
    """Logins from node to node.

    Args:
        fleet: The answer of ``fleet_keys``.
        user: Who logs in.
        folder: Where our files on the node lie.
        key: The private key on the controller; None: that of ``fleet``.
        more: Public keys of people who may log in besides.
    """
    allowed = dict.fromkeys([*fleet["public_keys"], *more])
    own_key, known_hosts = f"{folder}/mesh_key", f"{folder}/known_hosts"
    config = mesh.ssh_config(fleet["nodes"], own_key, known_hosts)
    files = [
        _folder("ssh_mesh.folder", folder),
        _file("ssh_mesh.authorized_keys", f"{folder}/authorized_keys", "\n".join(allowed) + "\n")
        | {"backup": True},
        {
            "id": "ssh_mesh.key",
            "type": "file",
            "path": own_key,
            "src": key or fleet["key"],
            "owner": user,
            "mode": "0600",
            "sensitive": True,
        },
        {
            "id": "ssh_mesh.known_hosts",
            "type": "file",
            "path": known_hosts,
            "src": fleet["known_hosts"],
            "mode": "0644",
        },
        _file("ssh_mesh.config", f"{folder}/ssh_config", config),
        {
            "id": "ssh_mesh.user_folder",
            "type": "directory",
            "path": f"~{user}/.ssh",
            "owner": user,
            "mode": "0700",
            "only_new": True,
        },
        {
            "id": "ssh_mesh.include",
            "type": "lines",
            "path": f"~{user}/.ssh/config",
            "lines": [f"Include {folder}/ssh_config"],
            "position": "top",
            "owner": user,
            "mode": "0600",
            "only_new": True,
        },
    ]
    return {"resources": files}


def pdsh_part(
    nodes: Sequence[Mapping[str, Any]], folder: str, profile: str, required: bool
) -> Part:
    """Names of all nodes for pdsh and MPI.

    Args:
        nodes: As ``mesh.peers`` lists them.
        folder: Where our files on the node lie.
        profile: The file for login shells.
        required: Whether pdsh must be there and find the nodes.
    """
    quoted = shlex.quote(folder)
    variables = (
        "# Made by pyswiftops; changes are lost.\n"
        f"export PDSH_RCMD_TYPE=ssh PDSH_GENDERS_FILE={quoted}/genders WCOLL={quoted}/nodes\n"
    )
    files = [
        _folder("pdsh.folder", folder),
        _file("pdsh.genders", f"{folder}/genders", mesh.genders(nodes)),
        _file("pdsh.nodes", f"{folder}/nodes", mesh.wcoll(nodes)),
        _file("pdsh.hostfile", f"{folder}/hostfile", mesh.hostfile(nodes)),
        _file("pdsh.profile", profile, variables),
    ]
    genders = f"PDSH_GENDERS_FILE={folder}/genders"
    finds = {
        "id": "pdsh.finds_nodes",
        "argv": ["env", "PDSH_RCMD_TYPE=ssh", genders, "pdsh", "-Q", "-g", "nodes"],
        "remedy": "install pdsh with genders in the image (apt-get install pdsh), or set "
        "pdsh_required: false",
    }
    return {"resources": files, "checks": [finds] if required else []}


def _folder(name: str, path: str) -> dict[str, Any]:
    return {"id": name, "type": "directory", "path": path, "mode": "0755"}


def _file(name: str, path: str, content: str) -> dict[str, Any]:
    return {"id": name, "type": "file", "path": path, "content": content, "mode": "0644"}
