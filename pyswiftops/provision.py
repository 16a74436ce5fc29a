"""Machines that SSH reaches -> nodes that can train, and back."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyswiftops import private
from pyswiftops.errors import BadInputError, Finding, ProvisionError, RunConflictError
from pyswiftops.runner import ModuleResult, PlaybookResult, run_playbook
from pyswiftops.specs.fleet import Fleet

TAIL = 8
COLLECTION = ("community", "docker")


@dataclass(frozen=True)
class Passwords:
    """What a host asks for; kept in memory, and in a file of mode 0600 while a playbook runs.

    Attributes:
        login: Of the login on hosts, for the first time.
        become: For sudo on hosts.
    """

    login: str = field(default="", repr=False)
    become: str = field(default="", repr=False)

    def variables(self) -> dict[str, str]:
        """As Ansible's inventory takes them."""
        named = {"swiftops_host_password": self.login, "swiftops_become_password": self.become}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Provisioned:
    """What was done to a fleet.

    Attributes:
        changed: machine -> how many tasks changed it. Hosts come first, then nodes.
        seconds: How long it took.
    """

    changed: dict[str, int]
    seconds: float


def up(
    fleet: Fleet,
    *,
    spares: bool = True,
    take_away: bool = True,
    passwords: Passwords | None = None,
    on_phase: Callable[[str], None] = lambda _name: None,
    on_output: Callable[[str], None] | None = None,
) -> Provisioned:
    """Make every node of a fleet ready; what is as it must be stays untouched.

    Args:
        fleet: The machines.
        spares: Spares as well.
        take_away: Containers of nodes that the fleet has no more; else they are let be.
        passwords: For hosts that ask for one.
        on_phase: Called with the name of each phase that starts.
        on_output: Called with what ansible-playbook itself prints.

    Raises:
        BadInputError: somebody else provisions this fleet at this moment.
        ProvisionError: a machine failed or did not answer; the others are ready.
    """
    variables = {**(passwords or Passwords()).variables(), "container_take_away": take_away}
    _check_collections(fleet)
    made = fleet.everyone() if spares else fleet
    return _play("site", made, variables, on_phase=on_phase, on_output=on_output)


def down(
    fleet: Fleet,
    *,
    data: bool = False,
    force: bool = False,
    passwords: Passwords | None = None,
    on_phase: Callable[[str], None] = lambda _name: None,
    on_output: Callable[[str], None] | None = None,
) -> Provisioned:
    """Take away what :func:`up` made: containers, network, image, keys.

    Args:
        fleet: The machines.
        data: Also the nodes' own roots: models, checkpoints, logs. Folders of hosts that are
            mounted are never touched.
        force: Even if a job is alive in a container.
        passwords: For hosts that ask for one.
        on_phase: Called with the name of each phase that starts.
        on_output: Called with what ansible-playbook itself prints.

    Raises:
        BadInputError: the fleet has nothing that we made, or somebody else provisions it.
        ProvisionError: a host failed or did not answer, or a job is alive.
    """
    if not fleet.hosts:
        raise BadInputError(
            Finding(
                "a fleet whose containers were made by swiftops up",
                "a fleet file without hosts",
                f"fleet {fleet.name}",
                "nothing is to be taken down; a run's files go with: swiftops rm RUN",
            )
        )
    _check_collections(fleet)
    variables = {
        **(passwords or Passwords()).variables(),
        "teardown_data": data,
        "teardown_force": force,
    }
    done = _play("teardown", fleet.everyone(), variables, on_phase=on_phase, on_output=on_output)
    state = Path(fleet.state_folder.root)
    if data and state.is_dir():
        shutil.rmtree(state)
    return done


def _check_collections(fleet: Fleet) -> None:
    """Containers are made with community.docker, which is no part of ansible-core."""
    found = importlib.util.find_spec("ansible_collections")
    folders = list(found.submodule_search_locations or ()) if found else []
    if not fleet.hosts or any(Path(folder, *COLLECTION).is_dir() for folder in folders):
        return
    raise BadInputError(
        Finding(
            f"the Ansible collection {'.'.join(COLLECTION)}",
            "none beside this Python",
            f"fleet {fleet.name}, which has hosts",
            "pip install 'pyswiftops[fleet]'",
        )
    )


def _play(
    playbook: str,
    fleet: Fleet,
    variables: Mapping[str, object],
    *,
    on_phase: Callable[[str], None],
    on_output: Callable[[str], None] | None,
) -> Provisioned:
    begin = time.monotonic()
    with alone(fleet), tempfile.TemporaryDirectory(prefix="swiftops-") as folder:
        inventory = Path(folder, "fleet.yml")
        inventory.write_text(fleet.to_yaml(), encoding="utf-8")
        result = run_playbook(
            playbook,
            inventory,
            Path(folder, "a"),
            variables,
            forks=max(5, len(fleet.nodes)),
            on_output=on_output,
            on_play=on_phase,
        )
        failures = _failures(result)
    names = [host.name for host in fleet.hosts] + [node.name for node in fleet.nodes]
    changed = {name: result.changed[name] for name in names if name in result.changed}
    if failures:
        raise ProvisionError(failures, changed)
    return Provisioned(changed, time.monotonic() - begin)


def _failures(result: PlaybookResult) -> dict[str, str]:
    """Machine -> the first thing that failed there; none where all went well."""
    first: dict[str, str] = {}
    if result.ok:
        return first
    for failure in result.failures:
        first.setdefault(failure.node, _sentence(failure))
    if not first and result.stdout is not None:  # the playbook itself could not start
        said = result.stdout.read_text(encoding="utf-8", errors="replace").strip()
        first["ansible-playbook"] = "\n".join(said.splitlines()[-TAIL:])
    return first


def _sentence(failure: ModuleResult) -> str:
    message = str(failure.data.get("msg", failure.data)).strip()
    detail = str(failure.data.get("stderr") or failure.data.get("module_stderr") or "").strip()
    lines = [f"{failure.task}: {message}", *([detail] if detail and detail not in message else [])]
    return "\n".join(lines)


@contextmanager
def alone(fleet: Fleet) -> Iterator[None]:
    """Hold the fleet's lock on this controller.

    Raises:
        RunConflictError: another process holds it.
        BadInputError: the fleet's folder cannot be written.
    """
    lock = Path(fleet.state_folder.root, "lock")
    with ExitStack() as stack:
        try:
            held = stack.enter_context(private.alone(lock))
        except OSError as problem:
            raise BadInputError(
                Finding(
                    "a folder for the fleet's key that can be written",
                    str(problem),
                    str(lock.parent),
                    "name another with state: in the fleet file",
                )
            ) from None
        if not held:
            raise RunConflictError(
                Finding(
                    "one swiftops up or down of a fleet at a time",
                    "another process is at it",
                    f"fleet {fleet.name}, {lock}",
                    "wait until it has ended, then run this again",
                )
            )
        yield
