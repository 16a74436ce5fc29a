"""Modules of the container fleet, with programs that play Docker; real Docker is in tests/fleet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]
Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a shell script of a name first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return make


# daemon.json


def test_settings_are_merged_and_what_others_wrote_stays(
    run_module: RunModule, tmp_path: Path
) -> None:
    path = tmp_path / "etc" / "daemon.json"
    path.parent.mkdir()
    before = {"data-root": "/big", "registry-mirrors": ["https://theirs.example"]}
    path.write_text(json.dumps(before), encoding="utf-8")
    path.chmod(0o640)
    settings = {"registry-mirrors": ["https://ours.example"], "runtimes": {"nvidia": {"path": "n"}}}
    given = {"path": str(path), "settings": settings, "pidfile": str(tmp_path / "none")}
    told = run_module("docker_daemon", check=True, **given)
    assert told["changed"] is True
    assert json.loads(path.read_text(encoding="utf-8")) == before
    assert run_module("docker_daemon", **given)["changed"] is True
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "data-root": "/big",
        "registry-mirrors": ["https://theirs.example", "https://ours.example"],
        "runtimes": {"nvidia": {"path": "n"}},
    }
    assert path.stat().st_mode & 0o777 == 0o640
    assert run_module("docker_daemon", **given)["changed"] is False
    assert [item.name for item in path.parent.iterdir()] == ["daemon.json"]


def test_a_file_that_is_no_json_is_left_alone(run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{,", encoding="utf-8")
    answer = run_module("docker_daemon", path=str(path), settings={"a": 1})
    assert answer["failed"] is True
    assert "remedy: mend the file" in answer["msg"]
    assert path.read_text(encoding="utf-8") == "{,"


def test_another_process_with_the_daemons_pid_is_not_told(
    run_module: RunModule, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        pidfile = tmp_path / "docker.pid"
        pidfile.write_text(str(other.pid), encoding="ascii")
        given = {"path": str(tmp_path / "daemon.json"), "pidfile": str(pidfile)}
        assert run_module("docker_daemon", settings={"a": 1}, **given)["told"] is False
        assert other.poll() is None
        other.communicate(b"\n")
    assert other.returncode == 0


# Which client builds


@pytest.mark.parametrize(
    ("case", "found"),
    [(("20.10.24", 1), True), (("28.2.2", 0), True), (("28.2.2", 1), False)],
)
def test_a_client_that_builds_with_buildkit(
    run_module: RunModule,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, int],
    *,
    found: bool,
) -> None:
    release, buildx = case
    text = f"case $1 in version) echo {release};; *) test {buildx} = 0 && echo v0.20;; esac"
    client = program("docker", text)
    monkeypatch.setenv("PATH", f"{client.parent}:/nowhere")
    answer = run_module("docker_builder")
    assert answer.get("client") == (str(client) if found else None)
    if not found:
        assert "remedy: apt install docker-buildx" in answer["msg"]


# What Docker holds


DOCKER = r"""
case "$1 $2" in
"ps --all") echo 1; echo 2;;
"inspect --type=container") cat <<'END'
[{"Name": "/swiftops-lab-node-2", "State": {"Running": true, "Health": {"Status": "healthy"}},
  "Config": {"Labels": {"swiftops.node": "node-2", "swiftops.definition": "d2"}}},
 {"Name": "/swiftops-lab-node-1", "State": {"Running": false}, "Config": {"Labels": null}}]
END
;;
"volume ls") echo v;;
"volume inspect") cat <<'END'
[{"Name": "v", "Labels": {"swiftops.node": "node-2", "swiftops.use": "etc"}}]
END
;;
"network ls") echo swiftops-lab;;
"image ls") echo swiftops/lab:1;;
"exec swiftops-lab-node-2") case "$3" in
  cat) echo "ssh-ed25519 AAAA swiftops-lab-node-2";;
  *) WORK;;
  esac;;
esac
"""


def test_what_there_is_of_a_fleet(run_module: RunModule, program: Program) -> None:
    program("docker", DOCKER.replace("WORK", "echo SWIFTOPS_JOB=r1/train"))
    answer = run_module("docker_fleet", fleet="lab", live=True, image="swiftops/lab")
    assert answer["containers"]["swiftops-lab-node-2"] == {
        "node": "node-2",
        "definition": "d2",
        "running": True,
        "health": "healthy",
        "host_key": "ssh-ed25519 AAAA",
        "jobs": ["r1/train"],
    }
    assert answer["containers"]["swiftops-lab-node-1"]["running"] is False
    assert answer["live"] == ["swiftops-lab-node-2 (r1/train)"]
    assert answer["volumes"] == {"v": {"node": "node-2", "use": "etc"}}
    assert answer["networks"] == ["swiftops-lab"]
    assert answer["images"] == ["swiftops/lab:1"]


def test_a_container_that_cannot_be_asked_may_be_at_work(
    run_module: RunModule, program: Program
) -> None:
    program("docker", DOCKER.replace("WORK", "exit 1"))
    answer = run_module("docker_fleet", fleet="lab", live=True)
    assert answer["live"] == ["swiftops-lab-node-2 (it does not answer)"]


def test_a_daemon_that_does_not_answer(run_module: RunModule, program: Program) -> None:
    program("docker", "echo Cannot connect >&2; exit 1")
    answer = run_module("docker_fleet", fleet="lab")
    assert answer["failed"] is True
    assert "Cannot connect" in answer["msg"]


# Loading an archive


def test_an_archive_is_loaded_and_named(
    run_module: RunModule, program: Program, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    load = "{ cat > /dev/null; echo Loaded image: a:1; }"
    program("docker", f'echo "$@" >> {said}; test "$1" != load || {load}')
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"tar")
    given = {"path": str(archive), "tag": "swiftops/lab:2"}
    assert run_module("docker_load", check=True, **given)["changed"] is True
    assert not said.exists()
    assert run_module("docker_load", **given)["loaded"] == "a:1"
    assert said.read_text(encoding="utf-8") == "load\nimage tag a:1 swiftops/lab:2\n"


def test_an_archive_of_something_else_is_refused(
    run_module: RunModule, program: Program, tmp_path: Path
) -> None:
    program("docker", "cat > /dev/null; echo unrecognized image format >&2; exit 1")
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"no tar")
    answer = run_module("docker_load", path=str(archive), tag="swiftops/lab:2")
    assert answer["failed"] is True
    assert "unrecognized image format" in answer["msg"]
