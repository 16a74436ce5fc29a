"""Training rows: what ms-swift would choke on, or drop without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOOD = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
}


def check(path: Path, *, answers: bool = True) -> dict[str, Any]:
    from ansible_collections.pyswiftops.fleet.plugins.module_utils import rows  # noqa: PLC0415

    return rows.check_file(str(path), answers=answers)


def found(tmp_path: Path, *lines: str | bytes) -> list[tuple[int, str]]:
    path = tmp_path / "rows.jsonl"
    raw = [line.encode() if isinstance(line, str) else line for line in lines]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return [(item["line"], item["found"]) for item in check(path)["problems"]]


def test_good_rows_have_no_problems(tmp_path: Path) -> None:
    tool = {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}
    agent = {"messages": [{"role": "user", "content": "x"}, tool]}
    other = {"query": "a", "response": "b"}
    assert found(tmp_path, *(json.dumps(row) for row in (GOOD, agent, other))) == []


def test_malformed_json_names_its_line(tmp_path: Path) -> None:
    ((line, what),) = found(tmp_path, json.dumps(GOOD), '{"messages": [', json.dumps(GOOD))
    assert line == 2
    assert what.startswith("malformed JSON")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "no object but list"),
        ({}, "no 'messages'; keys: none"),
        ({"text": "x"}, "no 'messages'; keys: text"),
        ({"messages": []}, "empty 'messages'"),
        ({"messages": None}, "empty 'messages'"),
        ({"messages": ["x"]}, "message 1: no object but str"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "unknown role 'bot'"),
        ({"messages": [{"role": "user", "content": None}]}, "content is NoneType"),
        ({"messages": [{"role": "user", "content": 3}]}, "content is int"),
        ({"messages": [{"role": "user", "content": ""}]}, "empty content"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no message of role 'assistant'"),
    ],
)
def test_each_bad_row_is_told_why(tmp_path: Path, row: Any, said: str) -> None:
    ((_, what),) = found(tmp_path, json.dumps(row))
    assert said in what


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    assert found(tmp_path, b'{"messages": "\xff"}') == [(1, "bytes that are not UTF-8")]


def test_blank_lines_are_no_rows_and_many_problems_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + "x\n" * 30, encoding="utf-8")
    result = check(path)
    assert result["rows"] == 30
    assert result["problem_count"] == 30
    assert len(result["problems"]) == 20


def test_rows_of_a_classifier_and_prompts_need_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "good"}], "label": 1}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert check(path, answers=False)["problems"] == []
    assert check(path)["problem_count"] == 1
