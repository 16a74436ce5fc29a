"""A job's log: its end, and what came since the last look."""

from __future__ import annotations

from pathlib import Path

from fleet_utils import job_log


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
