"""Is the controller's own installation sound? Looks only; changes nothing."""

from __future__ import annotations

import importlib.metadata
import locale
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.requirements import Requirement

from pyswiftops.content import collection, collections_path
from pyswiftops.errors import SwiftOpsError
from pyswiftops.runner import environment

FREE_BYTES = 5_000_000_000
_BESIDE = Path("ansible_collections", "pyswiftops", "fleet")


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        verdict: How it is.
        found: What was found.
        remedy: What to do, "" where nothing is.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def check_python() -> Check:
    """Python 3.11 or later."""
    fine = sys.version_info >= (3, 11)
    remedy = "" if fine else "make a virtual environment with Python 3.11 or later"
    verdict = Verdict.OK if fine else Verdict.BLOCK
    return Check("Python", verdict, f"{sys.version.split()[0]} ({sys.executable})", remedy)


def check_packages() -> list[Check]:
    """What the package requires, without and with extras that are (partly) installed."""
    try:
        requirements = importlib.metadata.requires("pyswiftops") or []
    except importlib.metadata.PackageNotFoundError:
        remedy = "pip install pyswiftops"
        return [Check("package pyswiftops", Verdict.BLOCK, "not installed", remedy)]
    checks = []
    for text in requirements:
        requirement = Requirement(text)
        extras = re.findall(r"extra == ['\"]([^'\"]+)", text)
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras or [""]
        ):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            if not extras:
                remedy = f"pip install '{requirement.name}{requirement.specifier}'"
                checks.append(Check(requirement.name, Verdict.BLOCK, "not installed", remedy))
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        if extras and fits:
            continue  # only what is wrong of extras is worth a line
        worse = Verdict.WARN if extras else Verdict.BLOCK
        remedy = "" if fits else f"pip install '{requirement.name}{requirement.specifier}'"
        note = f"{found}, expected {requirement.specifier}" if not fits else found
        checks.append(Check(requirement.name, Verdict.OK if fits else worse, note, remedy))
    return checks


def check_collection() -> Check:
    """The collection that belongs to this package."""
    try:
        return Check("collection pyswiftops.fleet", Verdict.OK, str(collection()))
    except SwiftOpsError as problem:
        remedy = "pip install --force-reinstall --no-deps pyswiftops"
        return Check("collection pyswiftops.fleet", Verdict.BLOCK, str(problem), remedy)


def check_shadows(folders: list[Path]) -> list[Check]:
    """Other copies of the collection, which plain ansible-playbook would take first."""
    mine = collections_path() / _BESIDE
    found = [folder / _BESIDE for folder in folders if (folder / _BESIDE).is_dir()]
    shadows = [path for path in found if path.resolve() != mine.resolve()]
    remedy = "remove it, or export ANSIBLE_COLLECTIONS_PATH=$(swiftops collections-path)"
    return [Check("another collection", Verdict.WARN, str(path), remedy) for path in shadows]


def collection_folders() -> list[Path]:
    """Where plain Ansible looks for collections before Python's own folders."""
    configured = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(os.pathsep)
    defaults = ["~/.ansible/collections", "/usr/share/ansible/collections"]
    return [Path(folder).expanduser() for folder in [*configured, *defaults] if folder]


def check_ansible() -> Check:
    """Whether ansible-playbook starts, in the environment that playbooks get."""
    try:
        done = subprocess.run(
            ["ansible-playbook", "--version"],
            env={**os.environ, **environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return Check("ansible-playbook", Verdict.BLOCK, str(problem), "pip install ansible-core")
    lines = (done.stdout or done.stderr).strip().splitlines() or ["nothing printed"]
    if done.returncode:
        return Check("ansible-playbook", Verdict.BLOCK, lines[-1], "pip install ansible-core")
    return Check("ansible-playbook", Verdict.OK, lines[0])


def check_programs() -> list[Check]:
    """Programs that some fleets need."""
    needed = {
        "ssh": "apt-get install openssh-client (fleets of runtime host or container)",
        "rsync": "apt-get install rsync (transfers between machines)",
        "py-spy": "pip install py-spy (stacks of jobs that hang, on the nodes)",
    }
    path = environment()["PATH"]
    checks = []
    for name, remedy in needed.items():
        where = shutil.which(name, path=path)
        verdict = Verdict.OK if where else Verdict.WARN
        checks.append(Check(name, verdict, where or "not found", "" if where else remedy))
    return checks


def check_locale() -> Check:
    """Ansible asks for UTF-8."""
    found = locale.getpreferredencoding(do_setlocale=False)
    fine = found.lower().replace("-", "") == "utf8"
    remedy = "" if fine else "export LC_ALL=C.UTF-8"
    return Check("locale", Verdict.OK if fine else Verdict.BLOCK, found, remedy)


def check_disk(folder: Path) -> Check:
    """Room for runs, on the file system of a folder."""
    free = shutil.disk_usage(folder).free
    fine = free >= FREE_BYTES
    remedy = "" if fine else "make room, or work in another folder"
    found = f"{free / 1e9:.1f} GB free in {folder}"
    return Check("disk", Verdict.OK if fine else Verdict.WARN, found, remedy)


def examine() -> list[Check]:
    """All checks."""
    return [
        check_python(),
        *check_packages(),
        check_collection(),
        *check_shadows(collection_folders()),
        check_ansible(),
        *check_programs(),
        check_locale(),
        check_disk(Path.cwd()),
    ]
