"""Scripts are read as a shell reads them, and never executed."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswiftops.translate.shell import statements

SCRIPT = r"""
#!/bin/bash
# a comment with 'a quote
export NNODES=2
MODEL=/models/qwen   # trailing
ARGS="--micro_batch_size 4 --lr 1e-5"
OPTS=(
  --save "/out dir"  # here
  --save_interval 50
)
A=1 B='two words' \
megatron sft \
    --load $MODEL-mcore --dataset 'a/b#500' mix:rows#20 \
    --system "You are \"x\" for \$5." $ARGS "${OPTS[@]}" \
    --max_epochs ${EPOCHS:-1} > log.txt 2>&1 &
"""


def test_a_launch_script_is_read_with_its_variables_filled_in() -> None:
    (found,) = statements(SCRIPT)
    assert found.words == [
        *("megatron", "sft", "--load", "/models/qwen-mcore", "--dataset", "a/b#500"),
        *("mix:rows#20", "--system", 'You are "x" for $5.', "--micro_batch_size", "4"),
        *("--lr", "1e-5", "--save", "/out dir", "--save_interval", "50", "--max_epochs", "1"),
    ]
    assert found.env == {"NNODES": "2", "A": "1", "B": "two words"}
    assert found.line == 11
    assert found.unknown == []


def test_what_only_a_shell_knows_stays_and_is_named(tmp_path: Path) -> None:
    planted = tmp_path / "executed"
    text = f'swift sft --a "$(touch {planted})" --b `touch {planted}` --c $1 --d ${{X//a/b}}'
    (found,) = statements(text)
    assert found.words[3] == f"$(touch {planted})"
    assert found.unknown == [f"$(touch {planted})", f"`touch {planted}`", "$1", "${X//a/b}"]
    assert not planted.exists()


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        ("a 1; b 2 && c 3 || d | e &\nf", ["a", "b", "c", "d", "e", "f"]),
        ("if [ -z x ]; then\n  swift export\nfi", ["[", "swift"]),
        ("(cd /x && swift export)", ["cd", "swift"]),
        ("a 2>/dev/null >>log <in b", ["a"]),
        ("A=1\nB=2", []),
        ("", []),
        ("'", [""]),
        ('a "b', ["a"]),
        ("a $(b", ["a"]),
        ("X=(1 2", []),
    ],
)
def test_lists_of_commands_and_broken_text(text: str, programs: list[str]) -> None:
    found = [item.words[0] for item in statements(text)]
    assert [name for name in found if name != "fi"] == programs


def test_a_variable_without_quotes_is_split_and_one_with_quotes_is_not() -> None:
    (found,) = statements("X='1 2'\na $X \"$X\" '$X' pre$X")
    assert found.words == ["a", "1", "2", "1 2", "$X", "pre1", "2"]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")), min_size=1))
def test_quoted_words_arrive_as_they_were(words: list[str]) -> None:
    (found,) = statements(shlex.join(["x", *words]))
    assert found.words == ["x", *words]


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    statements(text)


@pytest.mark.parametrize("text", ["a 'b c' \"d $X\" e\\ f", 'a $X b${X}c "${X}" ${Y:-z q}'])
def test_words_are_those_that_bash_makes(text: str) -> None:
    script = f"X='p q'\nshow() {{ printf '%s\\n' \"$@\"; }}\nshow {text}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    (found,) = statements(f"X='p q'\nshow {text}")
    assert found.words[1:] == said.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$(expr 16 / $n)", "4"),
        ("$(expr 32 / $n / 2)", "4"),
        ("$(expr 2 \\* 3 + ${n})", "10"),
        ("$(( 7 / 2 ))", "3"),
        ("$((-7 % 4 + n))", "1"),
        ("$((2 - 3 * (1 + 1)))", "-4"),
    ],
)
def test_arithmetic_on_whole_numbers_is_done_as_bash_does_it(text: str, found: str) -> None:
    (statement,) = statements(f"n=4\nswift sft --a {text}\n")
    assert statement.words[-1] == found
    done = subprocess.run(
        ["bash", "-c", f"n=4; echo {text}"], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == found


@pytest.mark.parametrize(
    "text", ["$(expr 1 / 0)", "$((2 ** 9))", "$(expr length x)", "$((x))", "$(seq 3)", "$((1 +))"]
)
def test_what_is_no_arithmetic_stays_one_word(text: str) -> None:
    (statement,) = statements(f"swift sft --a {text} --b 1")
    assert statement.words[2:] == ["--a", text, "--b", "1"]
    assert statement.unknown == [text]
