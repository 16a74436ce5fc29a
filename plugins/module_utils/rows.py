"""Check training rows line by line: what ms-swift would choke on, or drop without a word.

Stdlib only: runs with a node's own Python.
"""

from __future__ import annotations

import json
from pathlib import Path

ROLES = ("system", "user", "assistant", "tool", "tool_call", "tool_response")
# Columns other than ``messages`` that ms-swift's loader turns into messages.
OTHER_FORMS = (("query", "response"), ("conversations",), ("instruction", "output"))
REPORTED = 20  # problems listed per file; more are counted


def check_row(row: object, *, answers: bool = True) -> str | None:
    """What is wrong with one parsed row, or None; ``answers``: whether it must hold one.

    Only rows with ``messages`` are looked into; the other forms are left to the loader.
    """
    if not isinstance(row, dict):
        return f"a row that is no object but {type(row).__name__}"
    if "messages" in row:
        return _check_messages(row["messages"], answers=answers)
    if any(all(column in row for column in form) for form in OTHER_FORMS):
        return None
    return f"no 'messages'; keys: {', '.join(map(str, row)) or 'none'}"


def _check_messages(messages: object, *, answers: bool) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "empty 'messages'; ms-swift drops such rows without a word"
    for number, message in enumerate(messages, 1):
        problem = _check_message(message)
        if problem:
            return f"message {number}: {problem}"
    if answers and not any(message["role"] == "assistant" for message in messages):
        return "no message of role 'assistant': nothing to learn"
    return None


def _check_message(message: object) -> str | None:
    if not isinstance(message, dict):
        return f"no object but {type(message).__name__}"
    role = message.get("role")
    if role not in ROLES:
        return f"unknown role {role!r}"
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return None
    if not isinstance(content, (str, list)):
        return f"content is {type(content).__name__}, not text"
    if not content:
        return "empty content"
    return None


def check_file(path: str, *, answers: bool = True) -> dict:
    """Check every line of a JSON lines file.

    Args:
        path: The file.
        answers: Whether each row must hold an answer, as those of SFT do.

    Returns:
        ``rows`` (int), ``problems`` (list of {line: int from 1, found: str}, at most
        ``REPORTED``), ``problem_count`` (int).

    Raises:
        OSError: the file cannot be read.
    """
    rows, count, problems = 0, 0, []
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            rows += 1
            found = _check_line(line, answers=answers)
            if found:
                count += 1
                if len(problems) < REPORTED:
                    problems.append({"line": number, "found": found})
    return {"rows": rows, "problems": problems, "problem_count": count}


def _check_line(line: bytes, *, answers: bool) -> str | None:
    try:
        return check_row(json.loads(line), answers=answers)
    except UnicodeDecodeError:
        return "bytes that are not UTF-8"
    except ValueError as problem:
        return f"malformed JSON ({problem}); it would fail the whole load"
