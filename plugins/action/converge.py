# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Ships the converging program and its request to a node, in one execution."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pyswiftops.fleet.plugins.modules.converge import ARGUMENTS

UTILS = Path(__file__).resolve().parent.parent / "module_utils"
SOURCES = ("resources", "kernel", "listening", "converge")  # each imports only those before it
APART = {"parts", "pending", "network_peers"}  # not of a part
# Reads the sources and the request from standard input; its own text is all that is in argv.
START = (
    "import json,sys,types as t;d=json.load(sys.stdin)\n"
    "def load(name,text):\n"
    " m=t.ModuleType(name);m.__package__=name.rpartition('.')[0] or name;m.__path__=[]\n"
    " sys.modules[name]=m\n"
    " exec(compile(text,name,'exec'),m.__dict__);return m\n"
    "load('node','')\n"
    "for n,s in d['sources']:m=load('node.'+n,s)\n"
    "m.main(d['request'])"
)


def _joined(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the lists of all parts in them, as plain data, which is copied quickly."""
    if not {"parts", "resources"} & set(arguments):
        raise AnsibleActionFail(
            "expected: resources, or parts; found: neither; where: converge; "
            "remedy: see ansible-doc pyswiftops.fleet.converge"
        )
    joined = {name: value for name, value in arguments.items() if name != "parts"}
    for part in arguments.get("parts") or []:
        if not isinstance(part, Mapping) or not set(part) <= set(ARGUMENTS) - APART:
            found = sorted(part) if isinstance(part, Mapping) else type(part).__name__
            raise AnsibleActionFail(  # names alone: contents may be secret
                f"expected: parts with needs, resources, reactions, checks; found: {found}; "
                "where: parts; remedy: see ansible-doc pyswiftops.fleet.converge"
            )
        for name, items in part.items():
            joined[name] = [*joined.get(name, []), *items]
    plain: dict[str, Any] = json.loads(json.dumps(joined))
    return plain


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action ``pyswiftops.fleet.converge``; its options are those of the module."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = True

    def run(
        self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Execute the request on the node; return its answer."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not getattr(self._connection, "has_pipelining", False):
            raise AnsibleActionFail(
                f"expected: a connection that takes standard input; found: "
                f"{self._connection.transport}; where: ansible_connection; remedy: use ssh"
            )
        self._task.args = _joined(self._task.args)
        _, given = self.validate_argument_spec(argument_spec=ARGUMENTS)
        given.pop("parts")  # they are joined
        request = {**given, "resources": [self._with_content(item) for item in given["resources"]]}
        request["check_mode"] = self._task.check_mode
        told = ("network_facts",) if given["network_peers"] is not None else ()
        sources = [[name, (UTILS / f"{name}.py").read_text("utf-8")] for name in (*told, *SOURCES)]
        payload = json.dumps({"sources": sources, "request": request})
        command = shlex.join([*self._python(task_vars or {}), "-I", "-S", "-c", START])
        done = self._low_level_execute_command(command, in_data=payload.encode())
        answer = self._answer(done)
        if not self._task.diff:
            answer.pop("diff", None)
        return {**result, **answer}

    def _with_content(self, resource: dict[str, Any]) -> dict[str, Any]:
        """A resource with what lies in a file of the controller."""
        kept = {name: value for name, value in resource.items() if value is not None}
        source = kept.pop("src", None)
        if source is not None:
            try:
                kept["content"] = Path(source).expanduser().read_text("utf-8")
            except OSError as problem:
                if not self._task.check_mode:
                    raise AnsibleActionFail(
                        f"expected: a readable file; found: {problem.strerror}; where: {source} on "
                        "the controller; remedy: run the whole role, which makes it"
                    ) from problem
                kept["content"] = ""  # it would be made before
        if kept["type"] == "file" and "content" not in kept:
            raise AnsibleActionFail(
                f"expected: content or src; found: neither; where: resource {kept['id']}; "
                "remedy: give one of them"
            )
        return kept

    def _python(self, task_vars: Mapping[str, Any]) -> list[str]:
        """The node's Python, as Ansible names it."""
        named = self._templar.template(task_vars.get("ansible_python_interpreter"))
        found = (task_vars.get("ansible_facts") or {}).get("discovered_interpreter_python")
        if named and not str(named).startswith("auto"):
            return shlex.split(str(named))
        return [str(found or "python3")]

    def _answer(self, done: Mapping[str, Any]) -> dict[str, Any]:
        """What the program printed last."""
        lines = done["stdout"].strip().splitlines()
        try:
            answer: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            said = (done["stderr"] or done["stdout"]).strip()[-2000:]
            return {
                "failed": True,
                "msg": "expected: an answer of the node's Python (3.9 or later); found: exit code "
                f"{done['rc']}: {said}; where: {self._play_context.remote_addr}; remedy: "
                "ssh to the node and try: python3 --version",
            }
        return answer
