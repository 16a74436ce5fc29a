"""What is installed beside ms-swift on request: the exact command of pip for each of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.installing import flash_attn
from pyswiftops.installing.facts import Facts, probe_words, read_facts
from pyswiftops.installing.packages import pip_words, requirement
from pyswiftops.matrix import Row, row

FLASH_ATTN, APEX = "flash-attn", "apex"
# What an extra must not replace: these stay at the versions that are installed.
KEPT = ("torch", "transformers", "peft", "trl", "mcore-bridge", "megatron-core")


def extras_probe(line: str, wanted: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    """What follows a Python's name to learn what it holds of the wanted extras.

    Raises:
        BadInputError: an extra that is none.
    """
    _check_names(wanted, known)
    names = [_distribution(name, known[name], line) for name in wanted]
    return probe_words(dict.fromkeys([*KEPT, *names]), torch=True)


def _check_names(wanted: Iterable[str], known: Mapping[str, Any]) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise BadInputError(
            Finding(
                f"one of {', '.join(known)}",
                ", ".join(map(repr, unknown)),
                "swift_extras_wanted",
                "give it to pip by swift_install_more, if it is right",
            )
        )


def _text(extra: Mapping[str, Any], line: str) -> str:
    return str(extra.get("lines", {}).get(line) or extra["requirement"])


def _distribution(name: str, extra: Mapping[str, Any], line: str) -> str:
    return FLASH_ATTN if name == FLASH_ATTN else Requirement(_text(extra, line)).name


def extras_plan(
    line: str,
    asked: Mapping[str, str],
    wanted: Sequence[str],
    known: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """What is to be done for each wanted extra, in the order that they were asked for.

    Args:
        line: The release line.
        asked: ``node``, the ``python`` to install into, and the ``output`` of
            :func:`extras_probe` there.
        wanted: Names of extras.
        known: Name -> ``requirement``, ``pip`` (words), ``no_deps``, ``matrix`` (a package of the
            row), ``compiles`` (with CUDA), ``lines`` (line -> requirement).
        settings: ``versions`` (name -> version), ``flash_attn`` (``auto``, ``wheel``, ``source``),
            ``flash_attn_wheels`` (a listing), ``flash_attn_url``, ``apex`` (``skip``, ``build``),
            ``max_jobs``, ``facts``, ``asked``, and those of ``packages.pip_words``.

    Returns:
        For each: ``name``, ``argv`` (empty where nothing is run), ``environment``, ``installed``
        (a version, or ""), ``done`` (whether it is as wanted), ``note``, and ``problem``: why the
        command would fail here, or "".

    Raises:
        BadInputError: an extra that is none, or a version that the line cannot take.
    """
    _check_names([*wanted, *settings.get("versions", {})], known)
    facts = read_facts(asked["output"], asked["node"], asked["python"], settings.get("facts"))
    managed = facts.managed and settings.get("asked", True)
    pip = tuple(pip_words(asked["python"], settings, managed=managed))
    node = _Node(row(line), facts, asked["node"], pip, settings)
    return [node.plan(name, known[name]) for name in dict.fromkeys(wanted)]


@dataclass(frozen=True)
class _Node:
    """A node to install on: the line's row, what its Python holds, and how pip is started."""

    row: Row
    facts: Facts
    name: str
    pip: tuple[str, ...]
    settings: Mapping[str, Any]

    def plan(self, name: str, extra: Mapping[str, Any]) -> dict[str, Any]:
        held = self.facts.held(_distribution(name, extra, self.row.line))
        found: dict[str, Any] = {
            "name": name,
            "argv": [],
            "environment": {},
            "installed": held.version if held else "",
            "done": False,
            "note": "",
            "problem": "",
        }
        if name == APEX and self.row.apex and self.settings.get("apex", "skip") == "skip":
            avoid = self.row.apex.avoid.items()
            flags = " ".join(f"--{flag} {str(on).lower()}" for flag, on in avoid)
            note = f"left out; training does without it: {flags}"
            return {**found, "done": True, "note": note}
        if name == FLASH_ATTN:
            what, note, compiles, problem = _flash_attn(
                self.row, self.facts, self.name, self.settings
            )
            version = _flash_attn_version(self.row, self.settings)
            found.update(note=note, problem=problem)
            done = self.facts.has(f"{FLASH_ATTN}=={version}")
        else:
            what = _versioned(name, extra, self.row, self.facts.python, self.settings)
            compiles, done = bool(extra.get("compiles")), self.facts.has(what)
        words = extra.get("pip", []) if compiles or name != FLASH_ATTN else []
        last = ["--no-deps", what] if extra.get("no_deps") else [what, *_kept(name, self.facts)]
        found.update(argv=[*self.pip, *words, *last], done=done)
        if compiles:
            found["environment"] = {"MAX_JOBS": str(self.settings.get("max_jobs", 4))}
            found["problem"] = found["problem"] or _toolkit(name, self.facts, self.name)
        return {**found, "problem": ""} if done else found


def _versioned(
    name: str, extra: Mapping[str, Any], of: Row, python: str, settings: Mapping[str, Any]
) -> str:
    """The requirement: the user's version, else the row's, else the data's own."""
    text = _text(extra, of.line)
    version = settings.get("versions", {}).get(name, "")
    wanted = Requirement(text)
    if wanted.url:
        if version:
            return f"{text.partition('@ ')[0]}@ {wanted.url.rpartition('@')[0]}@{version}"
        return text
    with_extras = f"{wanted.name}[{','.join(sorted(wanted.extras))}]"
    head = with_extras if wanted.extras else wanted.name
    if version:
        return f"{head}=={_version(name, version)}"
    package = of.packages.get(str(extra.get("matrix", "")))
    if package and (package.pin or package.recommended or package.range):
        return requirement(head, package, python)
    return text


def _version(name: str, version: str) -> str:
    try:
        return str(Version(version))
    except InvalidVersion:
        where = f"swift_extras_versions.{name}"
        raise BadInputError(Finding("a version", repr(version), where, "as: 2.8.3")) from None


def _flash_attn_version(of: Row, settings: Mapping[str, Any]) -> str:
    """The version to install; the row's is the newest that its Transformer Engine takes."""
    package = of.packages.get(FLASH_ATTN)
    ceiling = (package.pin or package.recommended) if package else None
    asked = settings.get("versions", {}).get(FLASH_ATTN, "")
    if not asked:
        return ceiling or flash_attn.newest(settings["flash_attn_wheels"])
    version = _version(FLASH_ATTN, asked)
    if ceiling and Version(version) > Version(ceiling):
        raise BadInputError(
            Finding(
                f"flash-attn {ceiling} or older for ms-swift {of.line}",
                version,
                f"swift_extras_versions.{FLASH_ATTN}",
                f"leave it out, or ask for {ceiling}",
            )
        )
    return version


def _flash_attn(
    of: Row, facts: Facts, node: str, settings: Mapping[str, Any]
) -> tuple[str, str, bool, str]:
    """What pip is given, a note, whether it compiles, and a problem."""
    version = _flash_attn_version(of, settings)
    source = f"{FLASH_ATTN}=={version}"
    if facts.torch is None or not facts.torch.cuda or not facts.torch.version:
        found = f"torch {facts.torch.version} without CUDA" if facts.torch else "no torch"
        remedy = "install torch with CUDA first, or leave flash-attn out"
        return source, "", True, str(Finding("torch with CUDA for flash-attn", found, node, remedy))
    fits = flash_attn.wheel(
        version,
        facts.torch.cuda,
        facts.torch.version,
        facts.python,
        facts.machine,
        abi=facts.torch.cxx11abi,
    )
    names = settings["flash_attn_wheels"]
    way = settings.get("flash_attn", "auto")
    if way != "source" and fits.name in names:
        return f"{FLASH_ATTN} @ {fits.url(settings['flash_attn_url'])}", fits.name, False, ""
    if way == "source":
        return source, "built from source, as asked", True, ""
    near = flash_attn.nearest(fits, names)
    note = f"no wheel {fits.name} in the listing; it has {near}"
    if way == "wheel":
        remedy = "set swift_extras_flash_attn: source, or take a torch that has a wheel"
        return source, note, True, str(Finding(fits.name, near, node, remedy))
    return source, f"{note}; built from source", True, ""


def _kept(name: str, facts: Facts) -> list[str]:
    """What is installed and must not be replaced, as requirements beside the extra's."""
    held = {item: facts.held(item) for item in KEPT if item != canonicalize_name(name)}
    return [f"{item}=={Version(has.version).public}" for item, has in held.items() if has]


def _toolkit(name: str, facts: Facts, node: str) -> str:
    """Why it cannot be compiled here, or ""."""
    cuda = facts.torch.cuda if facts.torch else ""
    remedy = f"bring the CUDA toolkit of torch to the node, or leave {name} out"
    if not cuda:
        has = f"torch {facts.torch.version} without CUDA" if facts.torch else "no torch"
        return str(Finding(f"torch with CUDA to compile {name}", has, node, remedy))
    if not facts.nvcc:
        return str(Finding(f"nvcc of CUDA {cuda} to compile {name}", "no nvcc", node, remedy))
    whole = name == APEX  # its setup.py compares major and minor, the others the major version
    mine, theirs = (text if whole else text.partition(".")[0] for text in (facts.nvcc, cuda))
    if mine != theirs:
        found = f"nvcc of CUDA {facts.nvcc}"
        return str(Finding(f"nvcc of CUDA {cuda} to compile {name}", found, node, remedy))
    return ""


def extras_missing(
    line: str,
    asked: Mapping[str, str],
    plan: Sequence[Mapping[str, Any]],
    known: Mapping[str, Any],
) -> list[str]:
    """Which extras of a plan are not there after it ran, as sentences; ``asked`` as before."""
    facts = read_facts(asked["output"], asked["node"], asked["python"])
    found = []
    for item in plan:
        name = _distribution(item["name"], known[item["name"]], line)
        if item["argv"] and facts.held(name) is None:
            where = f"{asked['node']}: {asked['python']}"
            remedy = "look at what pip said"
            found.append(str(Finding(name, "not installed", where, remedy)))
    return found


def extra_text(item: Mapping[str, Any]) -> str:
    """An item of a plan in one line, as a shell would take it."""
    if not item["argv"]:
        return f"{item['name']}: {item['note']}"
    variables = [f"{name}={value}" for name, value in item["environment"].items()]
    state = f"there: {item['installed']}" if item["done"] else shlex.join(item["argv"])
    words = " ".join([] if item["done"] else variables)
    note = f" ({item['note']})" if item["note"] else ""
    return " ".join(filter(None, [f"{item['name']}{note}:", words, state]))
