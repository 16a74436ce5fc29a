# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Decides on the controller what nodes train over; calls no node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pyswiftops.fleet.plugins.modules.network_decision import ARGUMENTS

try:
    from pyswiftops.errors import BadInputError
    from pyswiftops.network import document
    from pyswiftops.network.findings import Severity
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action ``pyswiftops.fleet.network_decision``; its options are those of the module."""

    _supports_check_mode = True
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Decide, keep facts and files, and say which files are others than before."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if MISSING is not None:
            raise AnsibleActionFail(
                "expected the Python package pyswiftops beside ansible-core, found none "
                f"({MISSING}); remedy: pip install pyswiftops"
            )
        _, given = self.validate_argument_spec(argument_spec=ARGUMENTS)
        variables = (task_vars or {})["hostvars"]
        names = [str(name) for name in (task_vars or {})["groups"].get("swiftops_nodes", [])]
        told, state = document.told(variables, names), given["state"]
        try:
            found = document.gathered(variables, names, told, document.read(state))
            decision = document.decided(found)
            kept = [] if self._task.check_mode else document.write(state, found, decision)
        except (BadInputError, OSError) as problem:
            return {**result, "failed": True, "msg": str(problem)}
        remarks = [
            {"code": mark.code, "severity": mark.severity.value, **asdict(mark.finding)}
            for mark in decision.remarks
        ]
        warnings = [
            f"network, {mark.code}: expected {mark.finding.expected}; found {mark.finding.found}; "
            f"where: {mark.finding.where}; remedy: {mark.finding.remedy}"
            for mark in decision.remarks
            if mark.severity is not Severity.NOTE
        ]
        more = {"warnings": warnings} if warnings else {}
        changed = {"changed": bool(kept), "nodes": kept, "fabric": decision.fabric}
        return {**result, **changed, "remarks": remarks, **more}
