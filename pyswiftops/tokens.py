"""Tokens of hubs, from the caller's environment or from a file that only the caller can read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from pyswiftops.errors import BadInputError, Finding

NAMES = ("HF_TOKEN", "MODELSCOPE_API_TOKEN")
"""Environment variables that the hubs' own clients read."""


def hub_tokens(file: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Tokens by the clients' own names; the environment wins over the file.

    Args:
        file: A file of NAME=token lines, or None.
        environ: The caller's environment.

    Raises:
        BadInputError: the file cannot be read, others can read it, or it holds something else.
    """
    found = _from_file(Path(file)) if file else {}
    return found | {name: environ[name] for name in NAMES if environ.get(name)}


def _from_file(path: Path) -> dict[str, str]:
    expected = f"a file that only you can read, with lines NAME=token ({' or '.join(NAMES)})"
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        remedy = "name a file that you can read in hub.tokens of the fleet file"
        raise BadInputError(Finding(expected, str(problem), str(path), remedy)) from None
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or found.st_uid != os.geteuid():
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}"
        raise BadInputError(Finding(expected, mode, str(path), f"chmod 600 {path}"))
    tokens = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, token = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if name not in NAMES or not token:
            remedy = "mend that line; its content is not shown here"
            raise BadInputError(Finding(expected, "another line", f"{path}:{number}", remedy))
        tokens[name] = token
    return tokens
