"""What a release line needs, as commands of pip: torch first, so that none brings another build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from pyswiftops import installed
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.installing.facts import Facts, fits, probe_words, read_facts
from pyswiftops.matrix import Package, Row, row

TORCH, SWIFT = "torch", "ms-swift"
# Builds an editable install without package `wheel`, in the environment itself: no index is asked.
BUILDER = "setuptools>=70.1"
# Rows name these too, but they need a GPU's compilers or replace torch: role swift_extras.
EXTRAS = frozenset({"transformer_engine", "flash-attn", "vllm", "sglang"})
# Imports every module for good and says which file it came from.
IMPORTS = """
import importlib, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        module = importlib.import_module(name)
        found[name] = {"file": getattr(module, "__file__", None), "error": ""}
    except BaseException as problem:
        found[name] = {"file": None, "error": type(problem).__name__ + ": " + str(problem)[:300]}
print(json.dumps(found))
"""


def requirement(name: str, package: Package, python: str, pin: str = "") -> str:
    """A row's package as pip takes it: pin, else what is recommended, else the range.

    ``recommended: "0.15"`` names a series, ``2.8.0`` one version.
    """
    own = package.pin
    if package.pin_py312 and Version(python) >= Version("3.12"):
        own = package.pin_py312
    exact = pin or own or ""
    if not exact and package.recommended:
        short = len(Version(package.recommended).release) < 3  # noqa: PLR2004 major, minor, micro
        exact = f"{package.recommended}.*" if short else package.recommended
    return f"{name}=={exact}" if exact else f"{name}{package.range}"


def batches(
    of: Row, python: str, pins: Mapping[str, str], folder: str = "", more: Sequence[str] = ()
) -> list[list[str]]:
    """Requirements in the order in which they are installed, one list a command.

    Args:
        of: The release line's row.
        python: The version of the Python that they are for.
        pins: Package -> version, in place of the row's; it must lie in the row's range.
        folder: A checkout of ms-swift that is installed editable.
        more: Requirements of the user's.

    Raises:
        BadInputError: a pin that the row does not allow, or no torch to be found in row or pins.
    """
    _check(of, pins, more)
    names = {name: package for name, package in of.packages.items() if name not in EXTRAS}
    made = {
        name: requirement(name, package, python, pins.get(name, ""))
        for name, package in names.items()
    }
    torch = made.pop(TORCH, f"{TORCH}=={pins[TORCH]}" if TORCH in pins else "")
    if not torch:
        raise BadInputError(
            Finding(
                f"a version of torch in the row of line {of.line}",
                "none",
                "swift_install_pins",
                'set swift_install_pins: {"torch": VERSION}',
            )
        )
    if folder:
        del made[SWIFT]
    builder = [BUILDER] if folder else []
    own = ["--no-build-isolation", "--use-pep517", f"--editable={folder}"] if folder else []
    return [
        [torch, *builder],
        [*own, torch, *made.values()],
        *([[torch, *more]] if more else []),
    ]


def _check(of: Row, pins: Mapping[str, str], more: Sequence[str]) -> None:
    found = []
    where, remedy = "swift_install_pins", f"see: swiftops matrix {of.line}"
    for name, version in pins.items():
        package = of.packages.get(name)
        if name in EXTRAS or (package is None and name != TORCH):
            known = ", ".join(sorted({*of.packages, TORCH} - EXTRAS))
            found.append(Finding(f"one of {known}", repr(name), where, remedy))
            continue
        wanted = package.range if package else ""
        try:
            fine = fits(str(Version(version)), wanted)
        except InvalidVersion:
            fine = False
        if not fine:
            expected = f"{name} {wanted}".strip() + f" for ms-swift {of.line}"
            found.append(Finding(expected, repr(version), f"{where}.{name}", remedy))
    for text in more:
        try:
            Requirement(text)
        except InvalidRequirement:
            found.append(
                Finding("a requirement of pip", repr(text), "swift_install_more", "as: swanlab")
            )
    if found:
        raise BadInputError(found)


def pip_words(python: str, settings: Mapping[str, Any], *, managed: bool = False) -> list[str]:
    """``python -m pip install`` with where packages come from.

    Args:
        python: The Python to install into.
        settings: ``index_url``, ``extra_index_urls``, ``find_links``, ``no_index``.
        managed: Whether pip has to be told to install beside the distribution's packages.
    """
    words = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    words += ["--break-system-packages"] if managed else []
    words += ["--no-index"] if settings.get("no_index") else []
    if settings.get("index_url"):
        words.append(f"--index-url={settings['index_url']}")
    words += [f"--extra-index-url={url}" for url in settings.get("extra_index_urls", ())]
    return words + [f"--find-links={place}" for place in settings.get("find_links", ())]


def install_probe(line: str, more: Sequence[str] = ()) -> list[str]:
    """What follows a Python's name to learn what it holds of a line."""
    asked = dict.fromkeys([TORCH, Requirement(BUILDER).name, *row(line).packages])
    return probe_words([*asked, *(Requirement(text).name for text in more)])


def install_python(
    line: str, output: str, node: str, python: str, settings: Mapping[str, Any]
) -> list[str]:
    """Why a Python cannot have the line, as sentences; none where it can.

    Raises:
        BadInputError: what was asked for is nothing for the line, as :func:`batches` says.
    """
    wanted = row(line).python
    facts = read_facts(output, node, python)
    batches(row(line), facts.python, settings.get("pins", {}), "", settings.get("more", ()))
    if fits(facts.python, wanted.range):
        return []
    expected = f"Python {wanted.range} for ms-swift {line}"
    remedy = "set swift_install_base_python to another Python of the node, or use conda"
    return [str(Finding(expected, facts.python, f"{node}: {python}", remedy))]


def install_commands(
    line: str, output: str, node: str, python: str, settings: Mapping[str, Any]
) -> list[list[str]]:
    """The commands that a Python lacks for a line; none where it has all.

    Args:
        line: The release line.
        output: What :func:`install_probe` printed.
        node: The node's name, for errors.
        python: The Python to install into.
        settings: ``pins``, ``more``, ``folder``, those of :func:`pip_words`, and ``asked``: whether
            that Python itself answered, and not one that it is to be made with.

    Raises:
        BadInputError: as :func:`batches`, or no answer of the node.
    """
    facts = read_facts(output, node, python)
    folder = settings.get("folder", "")
    more = settings.get("more", [])
    found = batches(row(line), facts.python, settings.get("pins", {}), folder, more)
    words = pip_words(python, settings, managed=facts.managed and settings.get("asked", True))
    return [[*words, *batch] for batch in found if not _there(facts, batch, folder)]


def _there(facts: Facts, batch: Sequence[str], folder: str) -> bool:
    wanted = [text for text in batch if not text.startswith("--")]
    if len(wanted) < len(batch):
        held = facts.held(SWIFT)
        if held is None or not held.editable or held.url != PurePosixPath(folder).as_uri():
            return False
    return all(map(facts.has, wanted))


def install_look(line: str) -> list[str]:
    """What follows a Python's name to learn which files an import would take."""
    return installed.probe(row(line))[1:]


def import_words(modules: Sequence[str]) -> list[str]:
    """What follows a Python's name to import modules for good."""
    return ["-c", IMPORTS, json.dumps(list(modules))]


def install_findings(
    line: str, look: str, imports: str, node: str, settings: Mapping[str, Any]
) -> list[str]:
    """What is not as the row says, as sentences; none where all is.

    Args:
        line: The release line.
        look: What :func:`install_look` printed.
        imports: What :func:`import_words` printed.
        node: The node's name.
        settings: ``pins`` and ``folder`` as for :func:`install_commands`.
    """
    of = row(line)
    facts = installed.read(look)
    found = [str(item) for item in installed.conflicts(of, node, facts)]
    folder = settings.get("folder", "")
    module = str(facts["packages"].get(SWIFT, {}).get("module") or "")
    if folder and not module.startswith(folder.rstrip("/") + "/"):
        remedy = "look at PYTHONPATH of the node"
        found.append(str(Finding(f"swift out of {folder}", module or "none", node, remedy)))
    for name, version in settings.get("pins", {}).items():
        has = (facts["packages"].get(name) or {}).get("version")
        if has is not None and not fits(has, str(SpecifierSet(f"=={version}"))):
            found.append(str(Finding(f"{name} {version}", has, node, "look at what pip said")))
    for name, told in json.loads(imports.strip().splitlines()[-1]).items():
        if told["error"]:
            remedy = f"run on the node: python -c 'import {name}'"
            found.append(str(Finding(f"{name} can be imported", told["error"], node, remedy)))
    return found
