"""A support bundle: what helps somebody else to see what happened in a run, redacted."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyswiftops.errors import BadInputError, Finding, SwiftOpsError
from pyswiftops.passport.document import from_folder
from pyswiftops.passport.page import page
from pyswiftops.paths import RunFolder
from pyswiftops.redact import Redactor

FILE_BYTES = 1_000_000
"""What is kept of one file, from its end."""

BUNDLE_BYTES = 40_000_000
"""What is kept of all, before it is packed."""

CONTENTS = "CONTENTS.txt"


@dataclass
class Bundle:
    """What goes into a bundle.

    Attributes:
        files: Name in the bundle -> redacted text.
        left_out: A sentence for each thing that is not in it.
    """

    files: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """Add a text, or as much of its end as there is room for."""
        data = text.encode()
        room = BUNDLE_BYTES - sum(len(kept.encode()) for kept in self.files.values())
        if len(data) > room:
            self.left_out.append(f"{name}: the bundle is full at {BUNDLE_BYTES // 1_000_000} MB")
            return
        if len(data) > FILE_BYTES:
            self.left_out.append(f"{name}: all but its last {FILE_BYTES // 1_000_000} MB")
            data = data[-FILE_BYTES:]
        self.files[name] = data.decode(errors="replace")

    def contents(self, redactor: Redactor) -> str:
        """``CONTENTS.txt``."""
        taken = ", ".join(f"{count} of {kind}" for kind, count in sorted(redactor.counts.items()))
        lines = [
            "A support bundle of swiftops. All text in it was redacted; weights and rows are not",
            "in it, but log lines and answers are: look at it before you send it.",
            "",
            "Inside:",
            *(f"  {name}  {len(text.encode())} bytes" for name, text in self.files.items()),
            "",
            "Left out:",
            *(f"  {sentence}" for sentence in self.left_out or ["nothing that was looked for"]),
            "",
            f"Redacted: {taken or 'nothing was found'}",
        ]
        return "\n".join(lines) + "\n"


def collect(
    folder: RunFolder,
    redactor: Redactor,
    nodes: Mapping[str, str],
    missing: Iterable[str] = (),
) -> Bundle:
    """Everything of a run, redacted.

    Args:
        folder: The run.
        redactor: Knows the names of this site.
        nodes: Name in the bundle -> text, of what came from the nodes.
        missing: A sentence for each thing that did not come from them.
    """
    bundle = Bundle(left_out=[redactor.text(sentence) for sentence in missing])
    for path in (folder.state, folder.plan):
        _add(bundle, path.name, path, lambda text: _pretty(redactor.data(json.loads(text))))
    _add(bundle, folder.fleet.name, folder.fleet, redactor.text)
    _add(bundle, folder.events.name, folder.events, lambda text: _lines(redactor, text))
    try:
        passport = redactor.data(from_folder(folder))
    except SwiftOpsError as problem:
        bundle.left_out.append(redactor.text(f"passport: {problem}"))
    else:
        bundle.add(folder.passport.name, _pretty(passport))
        bundle.add(folder.passport_page.name, page(passport))
    for stage, path in folder.ansible_outputs().items():
        _add(bundle, f"ansible/{stage}.txt", path, redactor.text)
    for name, text in nodes.items():
        bundle.add(redactor.text(name), redactor.text(text))
    return bundle


def pack(bundle: Bundle, redactor: Redactor, to: Path) -> str:
    """Write the bundle as ``.tar.gz``, for its owner alone; return what is in it.

    Raises:
        BadInputError: the file is there already, or cannot be written.
    """
    contents = bundle.contents(redactor)
    try:
        with (
            open(to, "xb", opener=_owner_only) as file,
            tarfile.open(None, "w:gz", file) as archive,
        ):
            for name, text in ({CONTENTS: contents} | bundle.files).items():
                data = text.encode()
                entry = tarfile.TarInfo(f"report/{name}")
                entry.size, entry.mtime = len(data), int(time.time())
                archive.addfile(entry, io.BytesIO(data))
    except OSError as problem:
        raise BadInputError(
            Finding("a new file", str(problem), str(to), "name another (--output)")
        ) from None
    return contents


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _add(bundle: Bundle, name: str, path: Path, redact: Callable[[str], str]) -> None:
    try:
        bundle.add(name, redact(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError) as problem:
        bundle.left_out.append(f"{name}: {type(problem).__name__}")


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _lines(redactor: Redactor, text: str) -> str:
    """JSON lines, each redacted as data."""
    found = []
    for line in text[-2 * FILE_BYTES :].splitlines():
        try:
            found.append(json.dumps(redactor.data(json.loads(line)), ensure_ascii=False))
        except ValueError:  # half a line
            continue
    return "\n".join(found) + "\n"
