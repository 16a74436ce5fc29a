"""What a node's Python holds, asked by a program that imports nothing of it but torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pyswiftops.errors import BadInputError, Finding

# Python 3.8 and later; prints one line of JSON. Words: distributions, and whether to ask torch.
PROBE = """
import importlib.metadata as m, json, os, platform, re, subprocess, sys, sysconfig
names, ask = json.loads(sys.argv[1]), sys.argv[2] == "torch"
found = {}
for name in names:
    try:
        dist = m.distribution(name)
    except m.PackageNotFoundError:
        continue
    url = json.loads(dist.read_text("direct_url.json") or "{}")
    vcs = url.get("vcs_info", {})
    found[name] = {
        "version": dist.version, "url": url.get("url", ""), "commit": vcs.get("commit_id", ""),
        "revision": vcs.get("requested_revision", ""),
        "editable": bool(url.get("dir_info", {}).get("editable")),
    }
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
answer = {
    "python": platform.python_version(), "machine": platform.machine(), "packages": found,
    "managed": sys.prefix == sys.base_prefix and os.path.exists(marker), "torch": None, "nvcc": "",
}
if ask:
    try:
        import torch
        answer["torch"] = {"version": torch.__version__, "cuda": torch.version.cuda or "",
                           "cxx11abi": bool(torch.compiled_with_cxx11_abi())}
    except ImportError:
        pass
    try:
        told = subprocess.run(["nvcc", "--version"], stdout=subprocess.PIPE, text=True).stdout
        answer["nvcc"] = (re.search(r"release ([0-9.]+)", told) or ["", ""])[1]
    except OSError:
        pass
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Held:
    """A distribution that is installed.

    Attributes:
        version: Its version.
        url: Where it was installed from, if not from an index.
        commit: The commit, where that was a repository.
        revision: The branch, tag or commit that was asked for.
        editable: Whether it is an editable install of the folder in ``url``.
    """

    version: str
    url: str = ""
    commit: str = ""
    revision: str = ""
    editable: bool = False


@dataclass(frozen=True)
class Torch:
    """The torch that is installed: its version, its CUDA ("" for CPU), and its C++ ABI."""

    version: str
    cuda: str
    cxx11abi: bool


@dataclass(frozen=True)
class Facts:
    """What a node's Python holds.

    Attributes:
        python: Its version.
        machine: ``x86_64``.
        packages: Canonical name -> what is installed.
        managed: Whether the distribution forbids pip to install here.
        torch: The torch there; None where there is none, or where it was not asked for.
        nvcc: The CUDA toolkit's version, "" where there is none.
    """

    python: str
    machine: str
    packages: Mapping[str, Held] = field(default_factory=dict)
    managed: bool = False
    torch: Torch | None = None
    nvcc: str = ""

    def held(self, name: str) -> Held | None:
        """What is installed under a name, however it is spelled."""
        return self.packages.get(canonicalize_name(name))

    def has(self, requirement: str) -> bool:
        """Whether a requirement is met; one of a repository by what was asked for then."""
        wanted = Requirement(requirement)
        held = self.held(wanted.name)
        if held is None:
            return False
        if wanted.url and wanted.url.startswith("git+"):
            revision = wanted.url.partition("#")[0].rpartition("@")[2]
            return revision == held.revision or held.commit.startswith(revision)
        if wanted.url:
            return held.url == wanted.url
        return fits(held.version, str(wanted.specifier))


def fits(version: str, specifiers: str) -> bool:
    """Whether a version lies in a range; a local part, as ``+cpu``, does not matter."""
    try:
        return Version(version) in SpecifierSet(specifiers, prereleases=True)
    except InvalidVersion:
        return False


def probe_words(names: Iterable[str], *, torch: bool = False) -> list[str]:
    """What follows a Python's name to have :data:`PROBE` answer."""
    return ["-c", PROBE, json.dumps(list(names)), "torch" if torch else "-"]


def read_facts(
    output: str, node: str, python: str, given: Mapping[str, Any] | None = None
) -> Facts:
    """What :data:`PROBE` printed, with facts that were given in place of what was found.

    Args:
        output: All that it printed.
        node: The node's name, for the error.
        python: The Python that was asked, for the error.
        given: ``python``, ``machine``, ``nvcc`` and, of torch, ``torch``, ``cuda``, ``cxx11abi``.

    Raises:
        BadInputError: it is no answer, or a fact is given that is none.
    """
    lines = output.strip().splitlines()
    try:
        data = json.loads(lines[-1])
        packages = {
            str(canonicalize_name(name)): Held(**held) for name, held in data["packages"].items()
        }
        told = Torch(**data["torch"]) if data["torch"] else None
    except (IndexError, ValueError, KeyError, TypeError):
        found = lines[-1][:200] if lines else "nothing"
        where, remedy = f"{node}: {python}", "look whether that Python starts"
        raise BadInputError(Finding("facts of a Python", found, where, remedy)) from None
    given = dict(given or {})
    torch_keys = {"torch", "cuda", "cxx11abi"} & set(given)
    if torch_keys:
        before = told or Torch("", "", cxx11abi=True)
        told = Torch(
            str(given.pop("torch", before.version)),
            str(given.pop("cuda", before.cuda)),
            bool(given.pop("cxx11abi", before.cxx11abi)),
        )
    unknown = sorted(set(given) - {"python", "machine", "nvcc"})
    if unknown:
        raise BadInputError(
            Finding(
                "facts python, machine, nvcc, torch, cuda, cxx11abi",
                ", ".join(unknown),
                "swift_extras_facts",
                "leave it out",
            )
        )
    values = {**data, **{key: str(value) for key, value in given.items()}}
    python_version = re.sub(r"[^0-9.].*$", "", values["python"])
    return Facts(
        python_version, values["machine"], packages, bool(data["managed"]), told, values["nvcc"]
    )
