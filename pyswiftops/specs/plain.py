"""Plain data: what YAML and Ansible can hold, and JSON, argv and file names cannot."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pyswiftops.errors import Finding

LINE = 200  # characters of a value that are shown
DEEPEST = 50
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[\w-]{20,}|sk-[\w-]{20,}"
    r"|AKIA[0-9A-Z]{16})\b|-----BEGIN [A-Z ]*PRIVATE KEY"
)


def strange(data: Any, where: str) -> Iterator[Finding]:
    """Everything in ``data`` that a spec cannot hold.

    Args:
        data: A document.
        where: What to name as the place.
    """
    return _look(data, where, ": ", 1)


def _look(data: Any, place: str, joint: str, depth: int) -> Iterator[Finding]:
    if depth > DEEPEST:
        yield Finding(f"at most {DEEPEST} levels", "deeper ones", place, "nest less deeply")
    elif isinstance(data, Mapping):
        for key, value in data.items():
            name = str(key)[:LINE]
            yield from _key(key, place)
            yield from _look(value, f"{place}{joint}{name}", ".", depth + 1)
    elif isinstance(data, list | tuple):
        for number, value in enumerate(data):
            yield from _look(value, f"{place}{joint}{number}", ".", depth + 1)
    elif isinstance(data, str):
        yield from _text(data, place)
    else:
        yield from _other(data, place)


def _key(key: Any, place: str) -> Iterator[Finding]:
    if isinstance(key, str):
        yield from _text(key, f"a key in {place}")
        return
    read = f"{key!r}"[:LINE]
    yield Finding("keys that are texts", read, place, "put the key in quotes, as YAML reads it so")


def _text(text: str, place: str) -> Iterator[Finding]:
    if _TOKEN.search(text):
        remedy = "take it out and make a new one; give tokens through logins and files"
        yield Finding("no secrets in a file that is kept", "what looks like one", place, remedy)
    elif _CONTROL.search(text):
        found = f"{text!r}"[:LINE]
        remedy = "retype the value: something was pasted into it"
        yield Finding("a text without control characters", found, place, remedy)


def _other(data: Any, place: str) -> Iterator[Finding]:
    if isinstance(data, float):
        if not math.isfinite(data):
            yield Finding("a finite number", repr(data), place, "write a number")
    elif isinstance(data, int):
        if not -(2**63) <= data < 2**63:
            found = f"one of {data.bit_length()} bits"
            yield Finding("a number of 64 bits", found, place, "write a smaller one")
    elif data is not None:
        found = f"{str(data)[:LINE]}, which YAML reads as a {type(data).__name__}"
        yield Finding("a text, a number, a list or a mapping", found, place, "put it in quotes")
