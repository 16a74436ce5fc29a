"""The command line in this process, in a folder of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops.cli.main import main
from pyswiftops.errors import BadInputError

HERE = Path(__file__).parent
PARTS = ("expected: ", "found: ", "where: ", "remedy: ")
BASES = {
    name: yaml.safe_load((HERE / name).read_text(encoding="utf-8"))["bases"]
    for name in ("fleet.yml", "run.yml")
}


class Cli:
    """Runs ``swiftops`` in a folder that holds a valid fleet file and a valid run file."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self.folder, self._patch, self._capture = folder, monkeypatch, capfd
        (folder / "fleet.yml").write_text(BASES["fleet.yml"]["local"], encoding="utf-8")
        (folder / "run.yml").write_text(BASES["run.yml"]["run"], encoding="utf-8")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "4000")

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was printed."""
        self._patch.setattr(sys, "argv", ["swiftops", *arguments])
        self._capture.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = self._capture.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out + err


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """The command line in a fresh folder."""
    return Cli(tmp_path, monkeypatch, capfd)


def listing(folder: Path) -> list[tuple[str, int]]:
    """Every path of the folder with its size; links are not followed."""
    return sorted(
        (os.path.join(where, name), os.lstat(os.path.join(where, name)).st_size)  # noqa: PTH118 plain names
        for where, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )


def complete(message: str) -> str:
    """A message that says everything it must, and nothing that it must not."""
    for part in PARTS:
        assert part in message
    for word in ("Traceback", "verysecret", "hf_abc", "ghp_abc"):
        assert word not in message
    return message


def refused(folder: Path, said: list[str], action: Callable[[], Any]) -> None:
    """``action`` raises bad input with a full sentence and changes nothing in ``folder``."""
    before = listing(folder)
    with pytest.raises(BadInputError) as caught:
        action()
    assert caught.value.exit_code == 2
    message = complete(str(caught.value))
    for words in said:
        assert words in message
    assert listing(folder) == before


def assert_refused(cli: Cli, *arguments: str) -> str:
    """Exit 2 with a full sentence, nothing created; the message is returned."""
    before = listing(cli.folder)
    code, message = cli(*arguments)
    assert code == 2, message
    assert listing(cli.folder) == before
    return complete(message)
