# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Keeps the keys of a fleet on the controller; runs there, and calls no node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pyswiftops.fleet.plugins.modules.fleet_keys import ARGUMENTS

try:
    from pyswiftops.errors import BadInputError
    from pyswiftops.settings import mesh, pins
    from pyswiftops.settings.sshd import ENVIRONMENT
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action ``pyswiftops.fleet.fleet_keys``; its options are those of the module."""

    _supports_check_mode = True
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make, pin, forget or switch keys; return what nodes are to get."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if MISSING is not None:
            raise AnsibleActionFail(
                "expected the Python package pyswiftops beside ansible-core, found none "
                f"({MISSING}); remedy: pip install pyswiftops"
            )
        _, given = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            return {**result, **self._keep(given, task_vars or {})}
        except BadInputError as problem:
            return {**result, "failed": True, "msg": str(problem)}

    def _keep(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        names = given["nodes"] or list(task_vars["groups"].get("swiftops_nodes", []))
        nodes = mesh.peers(task_vars["hostvars"], names)
        state = Path(given["state"]).expanduser()
        did = [] if self._task.check_mode else self._change(state, given, nodes)
        if self._task.check_mode and not (state / pins.KEY).exists():
            did = ["the fleet's key"]
        pinned = pins.read(state)
        theirs = sorted({node["key"] for node in nodes if node["key"]} - {str(state / pins.KEY)})
        return {
            "changed": bool(did),
            "did": did,
            "key": str(state / pins.KEY),
            "next_key": str(state / pins.NEXT),
            "known_hosts": str(state / pins.KNOWN_HOSTS),
            "public_keys": [
                *(pins.public_keys(state) if state.exists() else []),
                *(pins.public_half(key) for key in theirs if Path(key).parent != state),
            ],
            "nodes": nodes,
            "unpinned": [node["name"] for node in nodes if node["alias"] not in pinned],
        }

    def _change(self, state: Path, given: dict[str, Any], nodes: list[dict[str, Any]]) -> list[str]:
        did = ["the fleet's key"] if pins.make_key(state, given["fleet"]) else []
        if given["rotate"] == "next" and pins.make_key(state, given["fleet"], pins.NEXT):
            did.append("the next key")
        elif given["rotate"] == "switch" and (state / pins.NEXT).exists():
            pins.switch_key(state)
            did.append("the next key is the fleet's")
        elif given["rotate"] == "drop" and (state / pins.LAST).exists():
            pins.drop_key(state)
            did.append("the last key is gone")
        did += [f"forgot {alias}" for alias in pins.forget(state, given["forget"])]
        did += [f"pinned {alias}" for alias in pins.pin(state, given["pins"])]
        files = {"ssh_config": mesh.controller_config(nodes)}
        if given["environment"]:
            files[ENVIRONMENT] = json.dumps(given["environment"], indent=1, sort_keys=True) + "\n"
        return did + [name for name, text in files.items() if pins.write_text(state / name, text)]
