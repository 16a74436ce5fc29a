"""The module ``answers``: word for word, or it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RunModule = Callable[..., dict[str, Any]]


def write(path: Path, *pairs: tuple[str, str]) -> str:
    lines = [
        json.dumps(
            {
                "response": answer,
                "messages": [
                    {"role": "user", "content": ask},
                    {"role": "assistant", "content": answer},
                ],
            }
        )
        for ask, answer in pairs
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_equal_answers_pass(run_module: RunModule, tmp_path: Path) -> None:
    one = write(tmp_path / "a", ("q", "x"), ("r", "y"))
    two = write(tmp_path / "b", ("q", "x"), ("r", "y"))
    result = run_module("answers", path=one, same_as=two)
    assert result["answers"] == [{"ask": "q", "answer": "x"}, {"ask": "r", "answer": "y"}]


def test_one_other_letter_fails_and_is_shown(run_module: RunModule, tmp_path: Path) -> None:
    one = write(tmp_path / "a", ("q", "x"), ("r", "y."))
    two = write(tmp_path / "b", ("q", "x"), ("r", "y"))
    result = run_module("answers", path=one, same_as=two)
    assert result["failed"]
    assert "expected: the base's answer to 'r', 'y'; found: 'y.'" in result["msg"]


def test_other_questions_fail(run_module: RunModule, tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", ("q", "x")), write(tmp_path / "b", ("s", "x"))
    assert "the same questions" in run_module("answers", path=one, same_as=two)["msg"]


def test_missing_answers_fail(run_module: RunModule, tmp_path: Path) -> None:
    assert run_module("answers", path=str(tmp_path / "none"))["failed"]


def test_of_answers_given_twice_the_last_counts(run_module: RunModule, tmp_path: Path) -> None:
    path = write(tmp_path / "a", ("q", "old"), ("q", "new"))
    assert run_module("answers", path=path)["answers"] == [{"ask": "q", "answer": "new"}]
