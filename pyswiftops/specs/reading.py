"""Reading a user's YAML file: bounded, strict about what YAML lets pass, with errors by line."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from pyswiftops.errors import BadInputError, Finding

MOST_BYTES = 1_000_000
MOST_NODES = 200_000  # after aliases are expanded
DEEPEST = 40
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# YAML 1.1 reads these as numbers, and nobody means them: 0777 is 511, 1:30 is 90.
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_FULL_WIDTH_COLON = re.compile("^[^:#'\"]*\uff1a", re.MULTILINE)


class _RefusedError(Exception):
    """What is wrong with the text, and in which line."""

    def __init__(self, expected: str, found: str, line: int, remedy: str) -> None:
        self.expected, self.found, self.line, self.remedy = expected, found, line, remedy
        super().__init__(found)


def read_yaml(path: Path, error: type[BadInputError], kind: str) -> dict[str, Any]:
    """Read a YAML mapping.

    Keys that stand twice, aliases that explode, and numbers that YAML reads in an old notation
    are refused: YAML itself takes them without a word.

    Args:
        path: The file.
        error: The class to raise.
        kind: What the file is, for messages ("fleet file").

    Raises:
        BadInputError: as ``error``, when the file is missing, not YAML, or not a mapping.
    """
    mapping = f"a {kind}: a YAML mapping"
    text = _text(path, error, kind)
    try:
        document = _load(text)
    except _RefusedError as problem:
        where = f"{path}:{problem.line}" if problem.line else str(path)
        raise error(Finding(problem.expected, problem.found, where, problem.remedy)) from None
    except yaml.YAMLError as problem:
        raise error(_not_yaml(problem, text, mapping, path)) from None
    except RecursionError:
        raise error(
            Finding(f"at most {DEEPEST} levels", "deeper ones", str(path), "nest less deeply")
        ) from None
    except (ValueError, OverflowError) as problem:  # a number or a date that cannot be one
        raise error(
            Finding(mapping, f"not YAML ({problem})", str(path), "put that value in quotes")
        ) from None
    if isinstance(document, dict):
        return document
    found = "an empty file" if document is None else f"a {type(document).__name__}"
    colon = _FULL_WIDTH_COLON.search(text)
    if colon:
        raise error(_full_width(colon, text, mapping, path))
    raise error(Finding(mapping, found, str(path), f"see inventory/ for a working {kind}"))


def _text(path: Path, error: type[BadInputError], kind: str) -> str:
    """The file's text; only of a regular file, as reading a pipe or a device may never end."""
    mapping = f"a {kind}: a YAML mapping"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise error(Finding(mapping, found, str(path), f"name an ordinary file, a {kind}"))
        if status.st_size > MOST_BYTES:
            found = f"{status.st_size} bytes"
            raise error(Finding(f"at most {MOST_BYTES} bytes", found, str(path), f"name a {kind}"))
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise error(
            Finding(mapping, "no such file", str(path), f"name an existing {kind}")
        ) from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        found = getattr(problem, "strerror", None) or str(problem)
        raise error(Finding(mapping, found, str(path), f"name a {kind} you may read")) from None
    if data.startswith(_UTF16):
        save = f"save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path.name}"
        raise error(Finding("UTF-8 text", "UTF-16", str(path), save))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        found = f"byte 0x{data[problem.start]:02x}, which is not UTF-8"
        save = f"save it as UTF-8, for instance: iconv -f GBK -t UTF-8 {path.name}"
        raise error(Finding("UTF-8 text", found, f"{path}:{line}", save)) from None


def _not_yaml(problem: yaml.YAMLError, text: str, mapping: str, path: Path) -> Finding:
    mark = getattr(problem, "problem_mark", None)
    position = getattr(problem, "position", None)  # of a character that YAML does not allow
    line = mark.line + 1 if mark else None
    if line is None and isinstance(position, int):
        line = text.count("\n", 0, position) + 1
    where = f"{path}:{line}" if line else str(path)
    reason = getattr(problem, "problem", None) or getattr(problem, "reason", None) or str(problem)
    colon = _FULL_WIDTH_COLON.search(text)
    if colon:
        return _full_width(colon, text, mapping, path)
    remedy = "indent with spaces" if "'\\t'" in reason else "mend the YAML at that line"
    return Finding(mapping, f"not YAML ({reason})", where, remedy)


def _full_width(colon: re.Match[str], text: str, mapping: str, path: Path) -> Finding:
    line = text.count("\n", 0, colon.end()) + 1
    remedy = "write ':' and a space, not the full-width sign"
    return Finding(mapping, "a full-width colon \uff1a", f"{path}:{line}", remedy)


def _load(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _size(node, {}, 1)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """How many nodes there are below ``node`` with aliases expanded; each is checked once."""
    line = node.start_mark.line + 1
    known = sizes.get(id(node))
    if known == 0:
        found = "one that holds itself"
        raise _RefusedError("anchors without a circle", found, line, "write the values out")
    if known:
        return known
    if depth > DEEPEST:
        raise _RefusedError(f"at most {DEEPEST} levels", "deeper ones", line, "nest less deeply")
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.ScalarNode):
        _check_number(node, line)
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        size += sum(_size(item, sizes, depth + 1) for pair in node.value for item in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_size(item, sizes, depth + 1) for item in node.value)
    if size > MOST_NODES:
        found = "aliases that stand for more"
        raise _RefusedError(f"at most {MOST_NODES} values", found, line, "write them out")
    sizes[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
            continue
        line = key.start_mark.line + 1
        name = (key.tag, key.value)
        if name in lines:
            found = f"{key.value!r} once more; it stands in line {lines[name]}"
            raise _RefusedError("each key once", found, line, "remove one of the two")
        lines[name] = line


def _check_number(node: yaml.ScalarNode, line: int) -> None:
    if node.style is not None:  # quoted
        return
    if node.tag.endswith(":int") and _OCTAL.fullmatch(node.value) and node.value.strip("+-0_"):
        found = f"{node.value}, which YAML reads as octal"
        raise _RefusedError("a decimal number", found, line, "drop the leading 0, or quote it")
    if _SEXAGESIMAL.fullmatch(node.value) and node.tag.endswith((":int", ":float")):
        found = f"{node.value}, which YAML reads as a number of base 60"
        raise _RefusedError("a number, or a text in quotes", found, line, f"write '{node.value}'")
