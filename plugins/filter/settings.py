# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters of the roles that settle nodes: thin imports of the Python package's pure text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from pyswiftops.errors import BadInputError
    from pyswiftops.settings import mesh, mirrors, sshd
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the package's errors into Ansible's, with the same sentence."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BadInputError as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return wrapper


class FilterModule:
    """Filters under ``pyswiftops.fleet``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> filter."""
        if MISSING is not None:
            raise AnsibleFilterError(
                "expected the Python package pyswiftops beside ansible-core, found none "
                f"({MISSING}); remedy: pip install pyswiftops"
            )
        functions = (
            mesh.genders,
            mesh.hostfile,
            mesh.mesh_changed,
            mesh.peers,
            mesh.read_keys,
            mesh.ssh_config,
            mesh.wcoll,
            mirrors.apt_conf,
            mirrors.apt_sources,
            mirrors.git_config,
            mirrors.git_credentials,
            mirrors.netrc,
            mirrors.pip_conf,
            sshd.kept_environment,
            sshd.sshd_config,
            sshd.sshd_effective,
            sshd.sshd_listeners,
            sshd.sshd_passwords,
        )
        return {function.__name__: _checked(function) for function in functions}
