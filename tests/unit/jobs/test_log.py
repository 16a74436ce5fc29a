"""A job's log: its end, and what came since the last look."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_utils import job_log

if TYPE_CHECKING:
    from conftest import Node


def test_only_whole_lines_come_while_the_job_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes("一\ntwo\nthr".encode())
    lines, known = job_log.after(log, 0, ended=False)
    assert lines == ["一", "two"]
    with log.open("ab") as file:
        file.write(b"ee\n")
    assert job_log.after(log, known, ended=False) == (["three"], log.stat().st_size)


def test_the_last_line_comes_when_the_job_has_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntw")
    assert job_log.after(log, 4, ended=True) == (["tw"], 6)


def test_a_new_attempts_log_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"new\n")
    assert job_log.after(log, 100, ended=False) == (["new"], 4)
    assert job_log.after(tmp_path / "none", 100, ended=False) == ([], 0)


def test_a_long_log_comes_in_parts_that_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wanted = [f"line {number} " + "x" * 70 for number in range(30_000)]
    log.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    found: list[str] = []
    known = 0
    while True:
        lines, known = job_log.after(log, known, ended=True)
        if not lines:
            break
        assert len("\n".join(lines)) <= 1024 * 1024
        found += lines
    assert found == wanted


def test_a_log_is_read_from_where_it_was_at_a_time(tmp_path: Path) -> None:
    log, notes = tmp_path / "log", tmp_path / "log.times"
    log.write_bytes(b"one\ntwo\nthree\n")
    os.utime(log, (400, 400))
    assert job_log.offset_at(log, notes, 350) == 0  # nothing was noted
    notes.write_text("100.0 4\n200.0 8\n300.0 1")
    for moment, offset in ((99, 0), (100, 4), (199.9, 4), (200, 8), (350, 8), (401, 14)):
        assert job_log.offset_at(log, notes, moment) == offset
    assert job_log.tail(log, 5, 4) == ["two", "three"]
    assert job_log.tail(log, 1, 4) == ["three"]
    assert job_log.tail(log, 5, 14) == []
    assert job_log.offset_at(tmp_path / "none", notes, 200) == 0


def test_the_length_is_noted_when_it_has_changed_and_not_too_often(tmp_path: Path) -> None:
    log, notes = tmp_path / "log", tmp_path / "log.times"
    times = job_log.Times(log, notes)
    times.note()  # no log yet: no note, and no error
    log.write_bytes(b"one\n")
    times.note()
    log.write_bytes(b"one\ntwo\n")
    times.note()  # too soon
    times.note(now=True)
    times.note(now=True)  # as long as before
    assert [line.split()[1] for line in notes.read_text().splitlines()] == ["4", "8"]


def test_a_jobs_log_is_told_since_a_time(node: Node) -> None:
    go = node.root / "go"
    wait = f"while not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.05)\n"
    node.python(f"import pathlib, time\nprint('old', flush=True)\n{wait}print('new')")
    notes = node.directory / "log.times"
    node.eventually(lambda: notes.exists() and notes.read_text().endswith("\n"))
    moment = time.time()
    assert node.read(tail=9, log_since=moment)["log_tail"] == []
    go.touch()
    node.end()
    assert node.read(tail=9, log_since=moment)["log_tail"] == ["new"]
    told = node.read(log_from=0, log_since=moment)
    assert (told["log_lines"], told["log_next"], told["log_more"]) == (["new"], 8, False)
    assert node.read(tail=9)["log_tail"] == ["old", "new"]


def test_a_long_log_says_that_there_is_more(node: Node) -> None:
    node.python("for n in range(30_000): print(n, 'x' * 70)")
    node.end()
    known, counted, looks = 0, 0, 0
    while True:
        told = node.read(log_from=known)
        known, counted, looks = told["log_next"], counted + len(told["log_lines"]), looks + 1
        if not told["log_more"]:
            break
    assert (counted, looks) == (30_000, 3)
