"""Arguments of the command line that must be refused: exit 2, no traceback, nothing created."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Cli, assert_refused, complete, listing

# argv, words of the message
REFUSED = [
    (["plan", "-i", "none.yml"], "no such file"),
    (["plan", "-r", "none.yml"], "no such file"),
    (["plan", "-i", "."], "a folder"),
    (["plan", "-r", ".."], "a folder"),
    (["plan", "-i", "/dev/null"], "a pipe or a device"),
    (["plan", "-r", "/dev/zero"], "a pipe or a device"),
    (["plan", "-i", "fleet.yml/x"], "no such file"),
    (["plan", "-i", ""], "a folder"),
    (["plan", "-i", "n" * 300], "File name too long"),
    (["plan", "-i", "\udcff.yml"], "no such file"),
    (["plan", "-i", "run.yml"], "no plugin line"),
    (["plan", "-r", "fleet.yml"], "one top-level key 'run:'"),
    (["plan", "--run-id", ""], "a run id of letters"),
    (["plan", "--run-id", ".."], "a run id of letters"),
    (["plan", "--run-id", "../up"], "a run id of letters"),
    (["plan", "--run-id", "a/b"], "a run id of letters"),
    (["plan", "--run-id", "/etc"], "a run id of letters"),
    (["plan", "--run-id=-rf"], "a run id of letters"),
    (["plan", "--run-id", "a b"], "a run id of letters"),
    (["plan", "--run-id", "a\nb"], "a run id of letters"),
    (["plan", "--run-id", "训练"], "a run id of letters"),
    (["plan", "--run-id", "\udcff"], "a run id of letters"),
    (["plan", "--run-id", "x" * 65], "a run id of letters"),
    (["plan", "--run-id", "{{ x }}"], "a run id of letters"),
    (["run", "--run-id", "../up"], "a run id of letters"),
    (["run", "-i", "none.yml"], "no such file"),
    (["run", "-r", "/dev/null"], "a pipe or a device"),
    (["status", "none"], "a run 'none'"),
    (["status", ".."], "a run id of letters"),
    (["status", "../.."], "a run id of letters"),
    (["status", ""], "a run id of letters"),
    (["status", "\udcff"], "a run id of letters"),
    (["status", "\x1b[31m"], "a run id of letters"),
    (["status", "none", "--runs", "none"], "a run 'none'"),
    (["status", "none", "--runs", "fleet.yml"], "a run 'none'"),
    (["status", "none", "--runs", "/dev/null"], "a run 'none'"),
    (["logs", "none"], "a run 'none'"),
    (["logs", "../up"], "a run id of letters"),
    (["logs", "/"], "a run id of letters"),
    (["logs", "none", "--since", "yesterday"], "a time ago"),
    (["logs", "none", "--since", "-10m"], "a time ago"),
    (["logs", "none", "--since", "\u0661\u0660m"], "a time ago"),
    (["stop", "none"], "a run 'none'"),
    (["stop", ".."], "a run id of letters"),
    (["stop", "a/../b"], "a run id of letters"),
    (["demo", "--name", "", "--folder", "d"], "expected: "),
    (["demo", "--device", "tpu", "--folder", "d"], "expected: "),
    (["demo", "--tuner", "qlora", "--folder", "d"], "expected: "),
    (["demo", "--nodes", "0", "--folder", "d"], "expected: "),
    (["demo", "--nodes", "-1", "--folder", "d"], "expected: "),
]
# what the parser itself refuses, before anything is looked at
USAGE = [
    ["plna"],
    ["plan", "extra"],
    ["plan", "--no-such-flag"],
    ["plan", "-i"],
    ["plan", "--json=yes"],
    ["run", "--again=maybe"],
    ["status"],
    ["status", "a", "b"],
    ["stop"],
    ["logs"],
    ["logs", "r", "--tail", "many"],
    ["logs", "r", "--tail", "0"],
    ["logs", "r", "--tail", "-5"],
    ["logs", "r", "--stage", "no-such-stage"],
    ["demo", "--nodes", "two"],
    ["demo", "--nodes", "1.5"],
    ["--no-such-flag"],
    ["--run-id", "x", "plan"],
]


@pytest.mark.parametrize(("argv", "said"), REFUSED, ids=lambda item: repr(item)[:60])
def test_arguments_are_refused_with_a_full_sentence(cli: Cli, argv: list[str], said: str) -> None:
    message = assert_refused(cli, *argv)
    assert said in message
    assert "\x1b" not in message


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_wrong_usage_exits_2(cli: Cli, argv: list[str]) -> None:
    before = listing(cli.folder)
    code, message = cli(*argv)
    assert code == 2
    assert message.strip()
    assert "Traceback" not in message
    assert listing(cli.folder) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [case for case in REFUSED if case[0][0] in {"plan", "status"}][::2] + REFUSED[-3:],
    ids=lambda item: repr(item)[:60],
)
def test_the_same_through_a_process_of_its_own(tmp_path: Path, argv: list[str], said: str) -> None:
    from .conftest import BASES  # noqa: PLC0415 beside the test that needs it

    (tmp_path / "fleet.yml").write_text(BASES["fleet.yml"]["local"], encoding="utf-8")
    (tmp_path / "run.yml").write_text(BASES["run.yml"]["run"], encoding="utf-8")
    before = listing(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pyswiftops.cli.main", *argv],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "4000"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    message = done.stderr.decode()
    assert done.returncode == 2, message
    assert said in complete(message)
    assert listing(tmp_path) == before
