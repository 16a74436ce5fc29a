"""The support bundle: bounded, redacted, and it says what it holds."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyswiftops.cli.main import app
from pyswiftops.errors import BadInputError
from pyswiftops.events import Event, EventKind
from pyswiftops.passport import bundle
from pyswiftops.passport.evidence import _parts
from pyswiftops.redact import REDACTED, Redactor
from pyswiftops.results import CommandResult
from pyswiftops.store import RunStore

TOKEN = "hf_abcdefghijklmnopqrstuv"  # noqa: S105 (no token of anybody)


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name.removeprefix("report/")] = file.read().decode()
        return found


def test_everything_is_in_it_and_no_secret(tmp_path: Path, run: RunStore) -> None:
    run.update("train", state="failed", error=f"no access with {TOKEN} at 10.9.8.7")
    run.record(Event(EventKind.STAGE_FAILED, "train", 1.0, data={"error": f"token={TOKEN}"}))
    stdout = run.folder.ansible("train") / "artifacts" / "1" / "stdout"
    stdout.parent.mkdir(parents=True)
    stdout.write_text(f"fatal: [node-1] {TOKEN}\n", encoding="utf-8")
    redactor = Redactor()
    logs = {"logs/node-1/train.txt": f"rank 0 at 10.9.8.7: {TOKEN}\n"}
    made = bundle.collect(run.folder, redactor, logs, ["logs of node-2: it does not answer"])
    path = tmp_path / "r.tar.gz"
    told = bundle.pack(made, redactor, path)
    found = unpacked(path)
    assert set(found) == {
        "CONTENTS.txt",
        "run.json",
        "plan.json",
        "fleet.yml",
        "events.jsonl",
        "passport.json",
        "passport.html",
        "ansible/train.txt",
        "logs/node-1/train.txt",
    }
    assert found["CONTENTS.txt"] == told
    for name in set(found) - {"CONTENTS.txt"}:
        assert name in told
    assert "node-2: it does not answer" in told
    assert "of secret" in told
    for text in found.values():
        assert TOKEN not in text
        assert "10.9.8.7" not in text
    assert f"at ip-1: {REDACTED}" in found["logs/node-1/train.txt"]
    error = json.loads(found["run.json"])["stages"]["train"]["error"]
    assert error == f"no access with {REDACTED} at ip-1"  # the same name everywhere
    assert error in found["passport.html"]
    assert [json.loads(line)["kind"] for line in found["events.jsonl"].splitlines()][-1] == (
        "stage_failed"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_bounded_and_says_what_was_cut(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "FILE_BYTES", 50_000)
    monkeypatch.setattr(bundle, "BUNDLE_BYTES", 200_000)
    logs = {f"logs/node-{number}/train.txt": "x" * 60_000 + "the end" for number in range(9)}
    made = bundle.collect(run.folder, Redactor(), logs)
    assert sum(len(text) for text in made.files.values()) <= 200_000
    assert made.files["logs/node-0/train.txt"].endswith("the end")
    assert any("logs/node-0/train.txt: all but its last" in item for item in made.left_out)
    assert any("logs/node-8/train.txt: the bundle is full" in item for item in made.left_out)


def test_a_run_with_broken_files_has_one_all_the_same(run: RunStore) -> None:
    run.folder.plan.write_text("{", encoding="utf-8")
    made = bundle.collect(run.folder, Redactor(), {})
    assert "run.json" in made.files
    assert {item.partition(":")[0] for item in made.left_out} == {"plan.json", "passport"}


def test_the_command_asks_the_nodes_and_never_overwrites(tmp_path: Path, run: RunStore) -> None:
    path = tmp_path / "o ut.tar.gz"
    arguments = ["report", "good", "--runs", str(run.folder.runs), "-o", str(path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == str(path)
    assert "passport.html" in done.stdout
    assert "run.json" in unpacked(path)
    checks = json.loads(unpacked(path)["doctor.json"])
    assert {"name", "verdict", "found"} <= set(checks[0])
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, BadInputError)
    none = CliRunner().invoke(app, ["report", "none", "--runs", str(run.folder.runs)])
    assert isinstance(none.exception, BadInputError)
    assert not Path("none-report.tar.gz").exists()


def test_what_tail_prints_is_taken_apart() -> None:
    text = "==> /a/stacks <==\none\ntwo\n\n==> /b/stacks <==\nthree\n"
    parts = _parts(CommandResult("n", 1, text, "tail: cannot open '/c'"))
    assert parts == {"/a/stacks": "\none\ntwo\n\n", "/b/stacks": "\nthree\n"}
    assert _parts(CommandResult("n", None, "", "")) == {}
