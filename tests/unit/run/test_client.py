"""Bad input through the command line: exit 2, a full sentence, nothing changed.

Real Ansible looks at real folders on two local nodes; nothing is trained.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SLOW = pytest.mark.slow

Edit = Callable[[dict[str, Any]], None]


class Place:
    """A folder with a fleet file, a run file, a model's config and rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet: dict[str, Any] = {
            "plugin": "pyswiftops.fleet.fleet",
            "runtime": "local",
            "device": "cpu",
            "root": "nodes",
            "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        }
        self.run: dict[str, Any] = {
            "name": "r",
            "model": {"path": "model"},
            "data": {"train": ["rows.jsonl"]},
            "training": {"iterations": 1, "global_batch_size": 2},
            "parallel": {"pipeline": 2},
        }
        (folder / "model").mkdir()
        config = {"num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30}
        (folder / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        row = {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        }
        (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")

    def swiftops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "fleet.yml").write_text(
            yaml.safe_dump(self.fleet, sort_keys=False), encoding="utf-8"
        )
        (self.folder / "run.yml").write_text(yaml.safe_dump({"run": self.run}), encoding="utf-8")
        return subprocess.run(
            [sys.executable, "-m", "pyswiftops.cli.main", *arguments],
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def listing(self) -> list[str]:
        return sorted(str(path) for path in self.folder.rglob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_plan_prints_every_command_of_every_node(place: Place) -> None:
    done = place.swiftops("plan")
    assert done.returncode == 0, done.stderr
    trains = [line for line in done.stdout.splitlines() if " megatron sft " in line]
    assert [line.split("$")[0] for line in trains] == ["node-1", "node-2"]
    assert "{train.checkpoint}" in done.stdout
    assert not (place.folder / "runs").exists()
    assert not (place.folder / "nodes").exists()


@pytest.mark.slow
def test_a_plan_in_json_holds_the_same_commands(place: Place) -> None:
    data = json.loads(place.swiftops("plan", "--json").stdout)
    assert set(data["jobs"]["train"]) == {"node-1", "node-2"}
    assert {"late": "train.checkpoint", "after": ""} in data["jobs"]["export"]["node-1"]["argv"]


def _set(*path: str, value: Any) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document.setdefault(key, {})
        document[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("fleet", "run", "said"),
    [
        (_set("runtime", value="lokal"), None, "runtime: one of container, host, local"),
        (_set("line", value="9.9"), None, "line: one of 2.6, 3.6"),
        (None, _set("modle", value={}), "did you mean 'model'?"),
        pytest.param(
            None, _set("model", "path", value="none"), "no such folder", marks=pytest.mark.slow
        ),
        pytest.param(None, _set("model", "path", value="."), "no config.json", marks=SLOW),
        pytest.param(
            None,
            _set("data", "train", value=["none.jsonl"]),
            "no such file",
            marks=pytest.mark.slow,
        ),
        (None, _set("parallel", "pipeline", value=3), "on 2 ranks"),
        pytest.param(
            None, _set("parallel", value={"tensor": 2}), "9 attention heads", marks=pytest.mark.slow
        ),
        (None, _set("extra_args", value={"train": {"train_iter": 1}}), "'train_iters'?"),
        pytest.param(
            _set("root", value="rows.jsonl/x"), None, "is not a folder", marks=pytest.mark.slow
        ),
    ],
)
def test_bad_input_exits_2_and_changes_nothing(
    place: Place, fleet: Edit | None, run: Edit | None, said: str
) -> None:
    if fleet:
        fleet(place.fleet)
    if run:
        run(place.run)
    place.swiftops("--version")  # writes the two files
    before = place.listing()
    done = place.swiftops("run")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    for part in ("expected: ", "found: ", "where: ", "remedy: "):
        assert part in done.stderr
    assert place.listing() == before


@pytest.mark.slow
def test_a_node_that_does_not_answer_is_named(place: Place) -> None:
    """Port 1 of loopback refuses the connection, as a machine without sshd does."""
    nodes = [{"name": "node-1", "address": "127.0.0.1", "port": 1, "root": "/nowhere"}]
    place.fleet = {**place.fleet, "runtime": "host", "root": "/nowhere", "nodes": nodes}
    place.run["parallel"] = {}
    done = place.swiftops("plan")
    assert done.returncode == 2, done.stderr
    assert "every node to answer" in done.stderr
    assert "where: node-1" in done.stderr


@pytest.mark.slow
def test_malformed_rows_name_file_and_line(place: Place) -> None:
    with (place.folder / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write("{\n\n")
    done = place.swiftops("plan")
    assert done.returncode == 2
    assert f"{place.folder}/rows.jsonl:2" in done.stderr
    assert "malformed JSON" in done.stderr


@pytest.mark.slow
def test_empty_rows_are_refused(place: Place) -> None:
    (place.folder / "rows.jsonl").write_text("", encoding="utf-8")
    assert "an empty file" in place.swiftops("plan").stderr


@pytest.mark.slow
def test_a_taken_port_is_refused(place: Place) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        place.run["deploy"] = {"port": server.getsockname()[1]}
        done = place.swiftops("plan")
    assert done.returncode == 2
    assert "port taken" in done.stderr


@pytest.mark.slow
def test_missing_files_and_unknown_runs_exit_2(place: Place) -> None:
    for arguments in (
        ("plan", "-i", "none.yml"),
        ("plan", "-r", "none.yml"),
        ("status", "none"),
        ("stop", "none"),
        ("resume", "none", "--replace", "node-2"),
        ("run", "--only", "trian"),
        ("demo", "--name", ""),
        ("demo", "--device", "tpu"),
        ("plan", "--no-such-flag"),
    ):
        done = place.swiftops(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (place.folder / "runs").exists()
    assert not (place.folder / "demo").exists()


@SLOW
def test_a_checkpoint_to_go_on_from_that_is_not_there_is_bad_input(place: Place) -> None:
    place.run["resume"] = {"from": "first"}
    before = place.swiftops("plan")
    listing = place.listing()
    assert before.returncode == 2
    assert "a checkpoint-N that was saved to its end" in before.stderr
    assert "nodes/node-1/runs/first/train" in before.stderr
    assert place.swiftops("run").returncode == 2
    assert place.listing() == listing
