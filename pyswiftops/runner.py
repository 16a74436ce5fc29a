"""Playbooks of the collection, run through ansible-runner; events in, results out."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_runner.interface import init_runner

from pyswiftops import leftovers
from pyswiftops.content import collections_path
from pyswiftops.private import private_folder
from pyswiftops.process import play

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|ACCESS_KEY", re.IGNORECASE)
_MODULE = "pyswiftops.fleet."


@dataclass(frozen=True)
class ModuleResult:
    """What a module returned on a node.

    Attributes:
        action: The module's name without the collection's ("job").
        task: The task's name.
        node: The node.
        data: The result.
        failed: Whether the task failed.
        final: False for a look at a job that goes on.
        unreachable: Whether the node could not be reached at all.
    """

    action: str
    task: str
    node: str
    data: Mapping[str, Any]
    failed: bool
    final: bool = True
    unreachable: bool = False


@dataclass
class PlaybookResult:
    """How a playbook ended.

    Attributes:
        ok: Whether it succeeded everywhere.
        results: Results of the collection's modules, and of whatever failed.
        stdout: Path of the playbook's own output.
        changed: node -> how many tasks changed it; every node that was reached is there.
    """

    ok: bool
    results: list[ModuleResult] = field(default_factory=list)
    stdout: Path | None = None
    changed: dict[str, int] = field(default_factory=dict)

    def data(self, action: str) -> dict[str, Mapping[str, Any]]:
        """The last result of a module on each node."""
        return {result.node: result.data for result in self.results if result.action == action}

    @property
    def failures(self) -> list[ModuleResult]:
        """Failed tasks in order."""
        return [result for result in self.results if result.failed]


def environment() -> dict[str, str]:
    """Variables for ansible-playbook: our collection first, nothing secret of the caller's."""
    programs = Path(sys.executable).parent  # ansible-playbook lies beside this Python
    blanked = {name: "" for name in os.environ if _SECRET.search(name)}
    return {
        **blanked,
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


class Listener:
    """Takes ansible-runner's events: hands on results, keeps those that are final.

    A long wait is many looks, each an event. None of them is kept, in memory or as a file.

    Args:
        on_result: Called for every module result as it comes.
        on_output: Called with what ansible-playbook itself prints.
        keep: Full names of other modules whose results are wanted as well.
        on_play: Called with the name of each play that starts.
    """

    def __init__(
        self,
        on_result: Callable[[ModuleResult], None],
        on_output: Callable[[str], None] | None = None,
        keep: frozenset[str] = frozenset(),
        on_play: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.results: list[ModuleResult] = []
        self.changed: dict[str, int] = {}
        self._on_play = on_play
        self._on_result, self._on_output, self._keep = on_result, on_output, keep

    def __call__(self, event: Mapping[str, Any]) -> bool:
        """Take an event; whether ansible-runner is to write it to a file."""
        if self._on_output is not None and event.get("stdout"):
            self._on_output(str(event["stdout"]))
        if event.get("event") == "playbook_on_play_start":
            self._on_play(str(event["event_data"].get("name", "")))
        if event.get("event") == "playbook_on_stats":
            told = event["event_data"]
            self.changed = {node: told["changed"].get(node, 0) for node in told["processed"]}
        result = _module_result(event, self._keep)
        if result is None:
            return True
        if result.final:
            self.results.append(result)
        self._on_result(result)
        return result.final


def run_playbook(
    name: str,
    inventory: Path,
    folder: Path,
    variables: Mapping[str, Any],
    *,
    forks: int,
    private: Path | None = None,
    on_result: Callable[[ModuleResult], None] = lambda _result: None,
    on_output: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    keep: frozenset[str] = frozenset(),
    owner: str = "",
    on_play: Callable[[str], None] = lambda _name: None,
) -> PlaybookResult:
    """Run ``pyswiftops.fleet.<name>``.

    Args:
        name: The playbook, for instance ``stages.train``.
        inventory: The fleet file.
        folder: ansible-runner's private data folder; its artifacts stay there.
        variables: Extra variables. They go through a file of mode 0600 that is removed at the
            end, never through ansible-runner's artifacts.
        forks: Nodes that Ansible works on at once.
        private: Where a private folder for that file is made; below ``folder`` by default.
        on_result: Called for every module result as it comes.
        on_output: Called with what ansible-playbook itself prints.
        cancelled: Asked now and then; True ends the playbook (jobs on nodes go on).
        keep: Full names of other modules whose results are wanted as well.
        on_play: Called with the name of each play that starts.
        owner: Named in the environment of all its processes, for :mod:`pyswiftops.leftovers`.
    """
    (folder / "project").mkdir(parents=True, exist_ok=True)
    listener = Listener(on_result, on_output, keep, on_play)
    with private_folder(private or folder / "private") as hidden:
        extra = hidden / "variables.json"
        with open(extra, "x", encoding="utf-8", opener=_owner_only) as file:
            json.dump(dict(variables), file)
        runner = init_runner(
            private_data_dir=str(folder),
            playbook=f"{_MODULE}{name}",
            inventory=str(inventory),
            cmdline=f"-e {shlex.quote(f'@{extra}')} --forks {forks}",
            envvars={**environment(), leftovers.OWNER: owner},
            suppress_env_files=True,
            quiet=True,
            event_handler=listener,
            cancel_callback=cancelled,  # without one it takes SIGINT and SIGTERM for itself
        )
        code = play(runner, cancelled)
    return PlaybookResult(
        ok=code == 0,
        results=listener.results,
        stdout=Path(runner.config.artifact_dir) / "stdout",
        changed=listener.changed,
    )


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_EVENTS = {
    "runner_on_ok": (False, True),
    "runner_item_on_ok": (False, True),
    "runner_retry": (False, False),
    "runner_on_failed": (True, True),
    "runner_item_on_failed": (True, True),
    "runner_on_unreachable": (True, True),
}


def _module_result(
    event: Mapping[str, Any], keep: frozenset[str] = frozenset()
) -> ModuleResult | None:
    if event.get("event") not in _EVENTS:
        return None
    failed, final = _EVENTS[event["event"]]
    data = event["event_data"]
    action = str(data.get("task_action", ""))
    failed = failed and not data.get("ignore_errors")
    looped = "results" in (data.get("res") or {})  # its items came as events of their own
    if looped or not (failed or action.startswith(_MODULE) or action in keep):
        return None
    return ModuleResult(
        action=action.removeprefix(_MODULE),
        task=str(data.get("task", "")),
        node=str(data.get("host", "")),
        data=data.get("res") or {},
        failed=failed,
        final=final,
        # an item of a loop that found nobody comes as one that failed
        unreachable=event["event"] == "runner_on_unreachable"
        or bool((data.get("res") or {}).get("unreachable")),
    )
