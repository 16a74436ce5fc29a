# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Kernel settings with the way back, and packages of the distribution.

A setting is written to ``/proc/sys`` and read back. The value before lies in a file of ours until
the setting is no longer asked for. What a machine does not let us set, as a container does not, is
a warning with its reason.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import os

from .resources import SHOWN, Resource, run

SYSCTLS = "/proc/sys"
HEAD = "# Made by pyswiftops; changes are lost.\n"
INSTALL_SECONDS = 900
APT = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]


def plain(value: object) -> str:
    """A setting's value as the kernel shows it, with single blanks."""
    return " ".join(str(value).split())


def place(name: str) -> str:
    """The file of a setting; a dot in an interface's name is written as a slash."""
    return os.path.join(SYSCTLS, name.translate(str.maketrans("./", "/.")))  # noqa: PTH118 plain text


class Machine(Resource):
    """Also what concerns the whole machine, and not one path."""

    def converge(self) -> None:
        """Bring it to what it must be, or only say what would change."""
        if self.given["type"] == "packages":
            self._packages()
        elif self.given["type"] == "sysctl":
            self._settings()
        else:
            super().converge()

    # Kernel settings.

    def _settings(self) -> None:
        wanted = {name: plain(value) for name, value in sorted(self.given["values"].items())}
        before = self._before()
        kept = dict(before)
        for name, value in {**before, **wanted}.items():
            self._setting(name, value, kept, asked=name in wanted)
        self._keep(kept)
        lines = "".join(f"{name} = {value}\n" for name, value in wanted.items())
        self._beside(self.path, HEAD + lines if wanted else "")

    def _before(self) -> dict:
        try:
            with open(self.given["before"], encoding="utf-8") as file:  # noqa: PTH123 a plain read
                return {str(name): str(value) for name, value in json.load(file).items()}
        except FileNotFoundError:
            return {}

    def _setting(self, name: str, value: str, kept: dict, *, asked: bool) -> None:
        """Set one, or set it back; what was before is kept before anything is written."""
        try:
            with open(place(name), encoding="utf-8") as file:  # noqa: PTH123 a plain read
                now = plain(file.read())
        except OSError as problem:
            if asked:
                self._tell(name, value, problem.strerror)
            else:
                kept.pop(name)  # nothing is left to be set back
            return
        if now != value:
            if asked and name not in kept:
                kept[name] = now
                self._keep(kept)
            self._changes(f"{name} was {now}", f"{name} = {now}\n", f"{name} = {value}\n")
            if not self.check and not self._written(name, value):
                if kept.get(name) == now:
                    kept.pop(name)
                return
        if not asked:
            kept.pop(name)

    def _written(self, name: str, value: str) -> bool:
        """Write a setting and read it back."""
        try:
            with open(place(name), "w", encoding="utf-8") as file:  # noqa: PTH123 as it is
                file.write(value)
            with open(place(name), encoding="utf-8") as file:  # noqa: PTH123 a plain read
                now = plain(file.read())
        except OSError as problem:
            self.reasons.pop()
            self.diffs.pop()
            self._tell(name, value, problem.strerror)
            return False
        if now != value:
            self._tell(name, value, f"the kernel made it {now}")
        return True

    def _tell(self, name: str, value: str, why: str) -> None:
        self.warnings.append(
            f"expected: {name} = {value}; found: {why}; where: {place(name)}; remedy: set it on "
            "the machine that the container runs on, or take it out"
        )

    def _keep(self, kept: dict) -> None:
        text = json.dumps(kept, indent=1, sort_keys=True) + "\n"
        self._beside(self.given["before"], text if kept else "", told=False)

    def _beside(self, path: str, text: str, *, told: bool = True) -> None:
        """A file that goes with the settings; none where it would be empty."""
        kind = {"type": "file", "content": text, "mode": "0644"} if text else {"type": "absent"}
        given = {**kind, "id": self.given["id"], "path": path}
        file = Resource(given, check=self.check, coming=self.coming, before=self.before)
        file.converge()
        if told:
            self.reasons += file.reasons
            self.diffs += file.diffs

    # Packages.

    def _packages(self) -> None:
        names = self.given["lines"]
        shown = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *names]
        said = run(shown)[1].splitlines()
        missing = [name for name in names if f"installed {name}" not in said]
        if not missing:
            return
        self._changes(f"not there: {', '.join(missing)}")
        if self.check:
            return
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends"]):
            last = missing if words[0] == "install" else []
            code, told = run([*APT, *words, *last], seconds=INSTALL_SECONDS)
            if code and last:  # an update that fails may still do
                raise self._refused(
                    "apt-get to install it",
                    f"{code}: {told[-SHOWN:]}",
                    ", ".join(missing),
                    "correct the sources of apt (role pip_mirror), or put them into the image",
                )
