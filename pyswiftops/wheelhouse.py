"""A folder of wheels that holds all a node needs, for nodes that reach no package registry.

``packages/`` holds what pyswiftops and its release line need. Pyswiftops itself lies beside it, so
that an image's large layer stays when only pyswiftops changes. ``wheelhouse.json`` says what for,
and names every file with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from packaging.requirements import Requirement

from pyswiftops.content import collection
from pyswiftops.errors import BadInputError, Finding, WheelhouseError
from pyswiftops.matrix import row

NAME = "pyswiftops"
EXTRA = "local"
INDEX = "wheelhouse.json"
PACKAGES = "packages"
EARLIER = "packages.earlier"  # only while packages are brought
_PYTHON = re.compile(r"3\.[0-9]{1,2}")


@dataclass(frozen=True)
class Target:
    """What wheels are for.

    Attributes:
        line: The ms-swift release line.
        python: ``3.11``.
        platform: A wheel platform tag, for instance ``manylinux_2_28_x86_64``.
        requirements: What is to be installed, pyswiftops itself left out.
    """

    line: str
    python: str
    platform: str
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of wheels.

    Attributes:
        folder: Where.
        target: What for.
        files: Path below the folder -> SHA-256 of it.
        changed: Whether anything was brought or removed.
    """

    folder: Path
    target: Target
    files: dict[str, str]
    changed: bool


def here() -> tuple[str, str]:
    """Python and platform of this machine, as :func:`make_wheelhouse` takes them."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"{sys.version_info[0]}.{sys.version_info[1]}", platform


def make_wheelhouse(
    folder: str | Path,
    *,
    line: str = "4.6",
    python: str | None = None,
    platform: str | None = None,
    requirements: tuple[str, ...] | None = None,
    on_step: Callable[[str], None] = lambda _text: None,
) -> Wheelhouse:
    """Fill a folder with wheels; what is there as it must be is not brought again.

    Args:
        folder: Where to; made if it is not there.
        line: The ms-swift release line.
        python: For which Python; default: this one.
        platform: For which platform; default: this machine's. For another one every package must
            have a wheel, as nothing can be built for it here.
        requirements: In place of what the line needs, for tests and for lines of your own.
        on_step: Called with what is done next.

    Raises:
        BadInputError: an unknown line, no such Python, or a folder that holds something else.
        WheelhouseError: pip could not bring a wheel; its last words say which.
    """
    folder = Path(folder).resolve()
    own_python, own_platform = here()
    if row(line).packages["ms-swift"].pin is None and requirements is None:
        raise BadInputError(
            Finding("a line whose pins are known", repr(line), "--line", "use --line 4.6")
        )
    python, platform = python or own_python, platform or own_platform
    if not _PYTHON.fullmatch(python):
        raise BadInputError(
            Finding("a Python as 3.11", repr(python), "--python", f"use --python {own_python}")
        )
    wanted = requirements if requirements is not None else needs(python)
    target = Target(line, python, platform, tuple(wanted))
    before = _read(folder)
    _check_folder(folder, before)
    whole = before is not None and before[0] == target and _as_recorded(folder, before[1])
    pip = _Pip(target, native=(python, platform) == (own_python, own_platform))
    if not whole:
        on_step("packages")
        _bring(pip, folder, before[1] if before else {})
    on_step(NAME)
    own = _own_wheel(pip, folder)
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in _wheels(folder, own)}
    changed = before is None or before != (target, files)
    if changed:
        text = json.dumps({**asdict(target), "files": files}, indent=1, sort_keys=True)
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")
    return Wheelhouse(folder, target, files, changed)


def needs(python: str) -> tuple[str, ...]:
    """What pyswiftops with its extra ``local`` requires on a Python, as pip takes it."""
    found = []
    for text in metadata.requires(NAME) or ():
        requirement = Requirement(text)
        environment = {"extra": EXTRA, "python_version": python}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            found.append(str(requirement))
    return tuple(found)


def _bring(pip: _Pip, folder: Path, recorded: Mapping[str, str]) -> None:
    """Fill ``packages`` anew; what an earlier call brought is taken from there."""
    packages, earlier = folder / PACKAGES, folder / EARLIER
    earlier.mkdir(exist_ok=True)
    packages.mkdir(exist_ok=True)
    for path in packages.iterdir():
        name = path.relative_to(folder).as_posix()
        if recorded.get(name) == _sha256(path) or (name not in recorded and is_zipfile(path)):
            path.replace(earlier / path.name)
        else:
            path.unlink()
    # torch first: what comes later then finds this build of it, and pip brings no other
    for batch in _batches(pip.target.requirements):
        pip.bring(batch, packages, earlier)
    shutil.rmtree(earlier)


def _batches(requirements: tuple[str, ...]) -> list[tuple[str, ...]]:
    torch = tuple(text for text in requirements if Requirement(text).name == "torch")
    return [batch for batch in (torch, requirements) if batch]


def _check_folder(folder: Path, before: Any) -> None:
    problem = ""
    if folder.exists() and not folder.is_dir():
        problem = "a file"
    elif folder.is_dir() and before is None:
        others = [path for path in folder.iterdir() if path.name not in (PACKAGES, EARLIER)]
        if not all(path.match(f"{NAME}-*.whl") for path in others):
            problem = "a folder that holds other things"
    if problem:
        raise BadInputError(
            Finding("an empty folder, or a wheelhouse", problem, str(folder), "name another")
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            Finding("a folder that can be written", str(error), str(folder), "name another")
        ) from None


def _read(folder: Path) -> tuple[Target, dict[str, str]] | None:
    try:
        data = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        files = {str(name): str(digest) for name, digest in data.pop("files").items()}
        return Target(**{**data, "requirements": tuple(data["requirements"])}), files
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_recorded(folder: Path, files: Mapping[str, str]) -> bool:
    packages = {name: digest for name, digest in files.items() if name.startswith(PACKAGES)}
    there = {path.relative_to(folder).as_posix() for path in (folder / PACKAGES).glob("*.whl")}
    return there == set(packages) and all(
        _sha256(folder / name) == digest for name, digest in packages.items()
    )


def _own_wheel(pip: _Pip, folder: Path) -> Path:
    """Pyswiftops itself: from the checkout where there is one, else as it is installed."""
    checkout = collection()
    is_checkout = (checkout / "pyproject.toml").is_file()
    what = str(checkout) if is_checkout else f"{NAME}=={metadata.version(NAME)}"
    with tempfile.TemporaryDirectory(prefix="swiftops-") as temporary:
        pip.own(what, Path(temporary))
        (made,) = Path(temporary).glob("*.whl")
        for old in folder.glob(f"{NAME}-*.whl"):
            if old.name != made.name:
                old.unlink()
        there = folder / made.name
        if not there.is_file() or _sha256(there) != _sha256(made):
            shutil.copyfile(made, there)
    return there


def _wheels(folder: Path, own: Path) -> list[Path]:
    return [*sorted((folder / PACKAGES).glob("*.whl")), own]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Pip:
    """pip, for this machine (it may build wheels) or for another (it may only bring them)."""

    target: Target
    native: bool

    def bring(self, requirements: tuple[str, ...], packages: Path, earlier: Path) -> None:
        """Bring what some requirements need, each with all of its own."""
        found = ["--find-links", str(packages), "--find-links", str(earlier)]
        if self.native:
            self._run(["wheel", "--wheel-dir", str(packages), *found, *requirements])
            return
        tags = ["--python-version", self.target.python, "--implementation", "cp"]
        for platform in dict.fromkeys([self.target.platform, "any"]):
            tags += ["--platform", platform]
        only = ["--only-binary", ":all:", "--dest", str(packages)]
        self._run(["download", *tags, *only, *found, *requirements])

    def own(self, what: str, folder: Path) -> None:
        """Bring or make pyswiftops' own wheel, which fits every platform."""
        self._run(["wheel", "--no-deps", "--wheel-dir", str(folder), what])

    @staticmethod
    def _run(arguments: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pip", *arguments, "--quiet"],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "WARNING" not in line]
            words = "\n".join(said[-8:])
            raise WheelhouseError(f"pip {arguments[0]} failed; what it brought is kept:\n{words}")
