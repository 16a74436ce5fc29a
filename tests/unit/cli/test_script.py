"""plan --script: shell scripts that run exactly what was planned."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pyswiftops.errors import BadInputError
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.planner.script import scripts, write_scripts
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

# Stands where ms-swift's programs are: writes down how it was called. What is tested is the
# script that calls it.
RECORDER = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["RECORD"], "w") as file:
    json.dump({"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd()}, file)
"""
VALUES = {"lease.master_port": "24999", "lease.deploy_port": "24998", "data.max_length": "48"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    programs = tmp_path / "it's a bin"
    programs.mkdir()
    for name in ("python", "swift", "megatron"):
        (programs / name).write_text(RECORDER, encoding="utf-8")
        (programs / name).chmod(0o755)
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "python": str(programs / "python"),
        "root": str(tmp_path / "nodes; $HOME"),
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    }
    run = {
        "name": "r",
        "model": {"path": "/m '\" 模型"},
        "data": {"train": ["/d"], "system": "two\nlines; $(touch x) `y`"},
        "training": {"iterations": 1},
        "parallel": {"pipeline": 2},
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    return make_plan(fleet, RunSpec.from_document({"run": run}, tmp_path / "run.yml"), "r")


@pytest.mark.slow
def test_each_job_is_called_word_for_word_as_planned(plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    write_scripts(plan, folder)
    checkpoint = Path(plan.jobs["train"][0].cwd).parents[1] / "train" / "checkpoint-10"
    for name in ("checkpoint-9", "checkpoint-10"):
        (checkpoint.parent / name).mkdir(parents=True)
    values = {**VALUES, "train.checkpoint": str(checkpoint)}
    record = tmp_path / "record.json"
    given = {
        "PATH": os.environ["PATH"],
        "RECORD": str(record),
        "LEASE_MASTER_PORT": VALUES["lease.master_port"],
        "LEASE_DEPLOY_PORT": VALUES["lease.deploy_port"],
        "DATA_MAX_LENGTH": VALUES["data.max_length"],
    }
    seen = 0
    for commands in plan.jobs.values():
        for command in commands:
            script = folder / f"{command.node}.sh"
            done = subprocess.run(
                ["bash", script, command.job],
                env=given,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            bound = command.bind(values)
            called = json.loads(record.read_text(encoding="utf-8"))
            assert called["argv"][1:] == list(bound.argv[1:]), command.job
            assert called["cwd"] == bound.cwd
            assert {key: called["env"][key] for key in bound.env} == dict(bound.env)
            for path, text in bound.files.items():
                assert Path(path).read_text(encoding="utf-8") == text
            seen += 1
    assert seen >= 9
    assert not (tmp_path / "x").exists()


def test_a_missing_value_is_asked_for(plan: Plan, tmp_path: Path) -> None:
    write_scripts(plan, tmp_path / "scripts")
    script = tmp_path / "scripts" / "node-1.sh"
    for arguments, said in ((["train"], "LEASE_MASTER_PORT"), ([], "usage"), (["no"], "usage")):
        done = subprocess.run(
            ["bash", script, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode
        assert said in done.stderr


def test_the_readme_has_every_job_and_copy(plan: Plan) -> None:
    text = scripts(plan)["README.md"]
    for job, commands in plan.jobs.items():
        for command in commands:
            assert f"bash {command.node}.sh {job}" in text
    assert text.count("- copy:") == 2


def test_files_are_copied_by_the_port_and_user_of_the_fleet_file(tmp_path: Path) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "container",
        "root": "/data/it's",
        "ssh": {"user": "swift"},
        "nodes": [{"name": "a", "address": "10.0.0.1"}, {"name": "b", "address": "fd00::2"}],
    }
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 1},
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    spec = RunSpec.from_document({"run": run}, tmp_path / "run.yml")
    text = scripts(make_plan(fleet, spec, "r"))["README.md"]
    copies = [line for line in text.splitlines() if "rsync" in line]
    argvs = [shlex.split(line.split("&& ")[1].rstrip("`"), comments=True) for line in copies]
    assert [argv[:5] for argv in argvs] == [["rsync", "-a", "-s", "-e", "ssh -p 2333"]] * 2
    assert [argv[5] for argv in argvs] == [
        "swift@10.0.0.1:/data/it's/a/runs/r/mcore/",
        "swift@[fd00::2]:/data/it's/b/runs/r/train/",
    ]


def test_a_folder_that_holds_something_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "x").touch()
    for folder in (tmp_path / "held", tmp_path / "held" / "x"):
        with pytest.raises(BadInputError, match="new or empty folder"):
            write_scripts(plan, folder)
    assert [path.name for path in (tmp_path / "held").iterdir()] == ["x"]
