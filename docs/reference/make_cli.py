# ruff: noqa: INP001 -- a script beside the file that it writes
"""Write the tables of arguments and options into ``cli.md``, from the command line itself.

``python docs/reference/make_cli.py`` after a change of ``pyswiftops/cli/``;
``tests/unit/test_docs.py`` fails until that is done. The words around the tables are written by
hand, and each command needs a section ``## swiftops NAME``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyswiftops.cli.main import commands

PAGE = Path(__file__).resolve().parent / "cli.md"
HEAD = "| option | default | meaning |\n|---|---|---|\n"
_SECTION = re.compile(r"^## swiftops (.+)$", re.MULTILINE)
_TABLE = re.compile(r"^\| option \| default \| meaning \|\n(\|.*\n)+", re.MULTILINE)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if callable(value):
        value = value()
    if isinstance(value, bool) or (value is None and getattr(parameter, "is_flag", False)):
        return "on" if value else "off"
    if value is None or value in ([], ()):
        return ""
    return f"`{value}`"


def options(command: Any) -> str:
    """The table of a command."""
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            names = f"`{(parameter.metavar or parameter.name).upper()}`"
        else:
            names = ", ".join(f"`{name}`" for name in parameter.opts)
        rows.append(f"| {names} | {_default(parameter)} | {parameter.help or ''} |\n")
    return HEAD + "".join(rows)


def text(page: str) -> str:
    """The page with the tables as they must be.

    Raises:
        KeyError: the page has a section of a command that is not there.
    """
    known = commands()
    parts = _SECTION.split(page)
    written = [parts[0]]
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        own, mark, rest = body.partition("\n## ")
        table = options(known[name])
        if _TABLE.search(own):
            own = _TABLE.sub(lambda _match, new=table: new, own, count=1)
        else:
            own = f"{own.rstrip()}\n\n{table}"
        written.append(f"## swiftops {name}{own if own.endswith(chr(10)) else own + chr(10)}")
        written.append(f"{mark}{rest}")
    return "".join(written)


def main() -> None:
    """Write the page."""
    PAGE.write_text(text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
