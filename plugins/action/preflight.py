# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Ships the program that looks, and what it is asked, to a node, in one execution."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pyswiftops.fleet.plugins.action import converge
from ansible_collections.pyswiftops.fleet.plugins.modules.preflight import ARGUMENTS

# Each imports only those before it.
SOURCES = (
    *("job_state", "listening", "process_tree", "shared_memory", "manifest", "fingerprint"),
    "preflight.__init__",
    *("preflight.gpus", "preflight.kernel_log", "preflight.storage", "preflight.limits"),
    *("preflight.names", "preflight.processes", "preflight.services", "preflight.meeting"),
    "preflight.look",
)


class ActionModule(converge.ActionModule):  # type: ignore[misc]
    """The action ``pyswiftops.fleet.preflight``; its options are those of the module."""

    def run(
        self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Have the node look; return what it tells."""
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        if not getattr(self._connection, "has_pipelining", False):
            raise AnsibleActionFail(
                f"expected: a connection that takes standard input; found: "
                f"{self._connection.transport}; where: ansible_connection; remedy: use ssh"
            )
        _, given = self.validate_argument_spec(argument_spec=ARGUMENTS)
        node, request, host = str(given["node"]), given["request"], given["host"]
        if not host and node not in request.get("nodes", {}):
            raise AnsibleActionFail(
                f"expected: a request that names this node; found: no {node!r} in it; "
                "where: request.nodes; remedy: make it with the filter preflight_request"
            )
        sources = [[name.removesuffix(".__init__"), _text(name)] for name in SOURCES]
        asked = {"node": node, "request": request, "host": host}
        payload = json.dumps({"sources": sources, "request": asked})
        command = shlex.join([*self._python(task_vars or {}), "-I", "-S", "-c", converge.START])
        done = self._low_level_execute_command(command, in_data=payload.encode())
        return {**result, **self._answer(done)}


def _text(name: str) -> str:
    return (converge.UTILS / f"{name.replace('.', '/')}.py").read_text("utf-8")
