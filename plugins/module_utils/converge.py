# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Bring the files and settings of a node to what they must be, in one execution.

A request lists ``resources`` (what must be on the node), ``reactions`` (what to do when some of
them changed) and ``checks`` (what must be in effect, looked at every time). Content, mode and
owner are always read from the node. The action plugin ships this file and what it imports, and the
request, on the standard input of one execution. A request may also ask what the node knows of its
network, so that this costs no execution of its own.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from .kernel import Machine
from .listening import is_here, listeners, listens, program_of, sockets
from .resources import SHOWN, RefusedError, Resource, run


def react(reaction: dict) -> str:
    """Do what a change asks for; say what was done."""
    if reaction.get("argv"):
        code, said = run(reaction["argv"])
        if code:
            raise RefusedError(
                "exit code 0", f"{code}: {said[-SHOWN:]}", reaction["id"], reaction["remedy"]
            )
        return " ".join(reaction["argv"])
    program = reaction["program"]
    pids = listeners(program, reaction.get("ports") or [])
    if not pids and reaction.get("pidfile"):
        try:
            with open(reaction["pidfile"], encoding="ascii") as file:  # noqa: PTH123 a plain read
                pid = int(file.read())
            pids = [pid] if program_of(pid) == program else []
        except (OSError, ValueError):
            pids = []
    if not pids:
        raise RefusedError(
            f"a process {program} that listens",
            "none",
            f"ports {reaction.get('ports')}, {reaction.get('pidfile')}",
            reaction["remedy"],
        )
    for pid in pids:
        os.kill(pid, getattr(signal, "SIG" + reaction["signal"]))
    return f"SIG{reaction['signal']} to {', '.join(map(str, pids))}"


def look(check: dict) -> None:
    """Refuse what is not in effect."""
    if check.get("argv"):
        code, said = run(check["argv"])
        lines = set(said.splitlines())
        missing = [
            line
            for line in check.get("output") or []
            if not lines & set([line] if isinstance(line, str) else line)
        ]
        if code or missing:
            expected = f"exit code 0 and {missing}" if missing else "exit code 0"
            keys = {str(line).split()[0] for line in missing if isinstance(line, str)}
            near = [
                line for line in said.splitlines() if line.split()[:1] and line.split()[0] in keys
            ]
            found = said[-SHOWN:] if code else "; ".join(near) or "no such line"
            raise RefusedError(expected, f"{code}: {found}", check["id"], check["remedy"])
        return
    end = time.monotonic() + check.get("seconds", 10)
    while not (listens(check["address"], check["port"]) and _is_its(check)):
        if time.monotonic() > end:
            there = sorted({port for _, port, _ in sockets()})
            expected = (
                f"{check.get('program') or 'a listener'} at {check['address']}:{check['port']}"
            )
            raise RefusedError(expected, f"ports {there}", check["id"], check["remedy"])
        time.sleep(0.05)


def _is_its(check: dict) -> bool:
    """Whether the port is held by the program that the check names."""
    return not check.get("program") or bool(listeners(check["program"], [check["port"]]))


def may_listen(need: dict) -> None:
    """Refuse an address that is not this machine's, and a port that another program holds."""
    place = f"{need['address']}:{need['port']}"
    if not is_here(need["address"]):
        raise RefusedError("an address of this node", need["address"], need["id"], need["remedy"])
    if listens(need["address"], need["port"]) and not listeners(need["program"], [need["port"]]):
        found = f"a program other than {need['program']} at {place}"
        raise RefusedError("a free port", found, need["id"], need["remedy"])


class Pending:
    """Reactions that are due, kept beside the files until they are done."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        try:
            with open(path or "", encoding="utf-8") as file:  # noqa: PTH123 a plain read
                self.due = [str(item) for item in json.load(file)]
        except (FileNotFoundError, NotADirectoryError, ValueError):
            self.due = []

    def add(self, ids: list[str]) -> None:
        """Keep ids, so that an execution that is cut off leaves them to the next."""
        new = [item for item in ids if item not in self.due]
        self.due += new
        folder = os.path.dirname(self.path or "")  # noqa: PTH120 plain text
        if new and os.path.isdir(folder):  # noqa: PTH112 as above
            self._converge({"type": "file", "content": json.dumps(self.due), "mode": "0600"})

    def done(self, ids: list[str]) -> None:
        """Forget ids; those of another request stay."""
        left = [item for item in self.due if item not in ids]
        if left != self.due and self.path:
            given = {"type": "file", "content": json.dumps(left), "mode": "0600"}
            self._converge(given if left else {"type": "absent"})
        self.due = left

    def _converge(self, given: dict) -> None:
        given = {**given, "id": "pending", "path": self.path}
        Resource(given, check=False, coming=set(), before=lambda: None).converge()


def converge(request: dict) -> dict:
    """Bring a node to what the request says; return what was found and done.

    Args:
        request: ``needs``, ``resources``, ``reactions``, ``checks``, ``pending`` (a file),
            ``check_mode``, ``network_peers`` (addresses).
    """
    check = bool(request.get("check_mode"))
    reactions = request.get("reactions") or []
    pending, coming = Pending(request.get("pending")), set()
    answer = {name: [] for name in ("resources", "applied", "reactions", "diff", "warnings")}
    answer["changed"] = False
    try:
        for need in request.get("needs") or []:
            may_listen(need)
        for given in request["resources"]:
            after = [item["id"] for item in reactions if given["id"] in item["after"]]
            resource = Machine(
                given, check=check, coming=coming, before=lambda after=after: pending.add(after)
            )
            resource.converge()
            reason = ", ".join(resource.reasons)
            told = {"id": given["id"], "path": resource.path, "reason": reason}
            answer["resources"].append({**told, "changed": bool(reason)})
            answer["diff"] += resource.diffs
            answer["warnings"] += resource.warnings
            if reason:
                answer["changed"] = True
                answer["applied"] += [] if check else [given["id"]]
        if check and answer["changed"]:
            return answer  # what is in effect now says nothing of what would be
        if not check:
            for item in [item for item in reactions if item["id"] in pending.due]:
                answer["reactions"].append({"id": item["id"], "did": react(item)})
                answer["changed"] = True
            pending.done([item["id"] for item in reactions])
        for item in request.get("checks") or []:
            look(item)
    except (RefusedError, OSError) as problem:
        applied = ", ".join(answer["applied"]) or "nothing"
        left = request["resources"][len(answer["resources"]) :]
        place = f" at {left[0]['id']}" if left and isinstance(problem, OSError) else ""
        answer.update(failed=True, msg=f"{problem}{place}; applied before: {applied}")
    return answer


def main(request: dict) -> None:
    """Print the answer to a request."""
    answer = converge(request)
    if request.get("network_peers") is not None:
        from .network_facts import gather  # noqa: PLC0415 only shipped where it is asked for

        answer["network"] = gather(request["network_peers"])
    sys.stdout.write(json.dumps(answer) + "\n")
