"""Filters of the roles that settle nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyswiftops.network import document
from pyswiftops.settings import mesh, mesh_parts, mirror_parts, proxy, shell, sshd, tuning

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    document.nccl_as_kept,
    document.nccl_peers,
    document.nccl_resources,
    mesh.all_pinned,
    mesh.mesh_changed,
    mesh.peers,
    mesh.read_keys,
    mesh_parts.mesh_part,
    mesh_parts.pdsh_part,
    mirror_parts.mirror_part,
    proxy.proxy_environment,
    proxy.proxy_part,
    shell.shell_part,
    sshd.kept_environment,
    sshd.sshd_part,
    tuning.tuning_changed,
    tuning.tuning_limits,
    tuning.tuning_part,
)
FILTERS = {function.__name__: function for function in FUNCTIONS}
