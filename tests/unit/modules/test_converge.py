"""The engine ``converge``: what it brings about, what it refuses, and what it leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.action.converge import SOURCES, START, UTILS
from ansible_collections.pyswiftops.fleet.plugins.module_utils import listening
from ansible_collections.pyswiftops.fleet.plugins.module_utils.converge import converge
from ansible_collections.pyswiftops.fleet.plugins.modules.converge import ARGUMENTS, DOCUMENTATION

Resource = dict[str, Any]


def apply(*resources: Resource, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = converge({"resources": list(resources), **request})
    return answer


def file(path: Path, content: str, **more: Any) -> Resource:
    return {"id": path.name, "type": "file", "path": str(path), "content": content, **more}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_run_changes_nothing_and_has_looked_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b\nc;$(x)"
    resources = [
        {"id": "folder", "type": "directory", "path": str(folder), "mode": "0700"},
        file(folder / "-rf 模型", "text\n", mode="0640"),
        {"id": "lines", "type": "lines", "path": str(folder / "config"), "lines": ["Include x"]},
    ]
    first = apply(*resources)
    assert first["applied"] == ["folder", "-rf 模型", "lines"]
    assert (folder / "-rf 模型").read_text(encoding="utf-8") == "text\n"
    assert (mode(folder), mode(folder / "-rf 模型")) == (0o700, 0o640)
    assert names(folder) == ["-rf 模型", "config"]
    second = apply(*resources)
    assert second["changed"] is False
    assert second["diff"] == []

    (folder / "-rf 模型").chmod(0o666)
    folder.chmod(0o755)
    (folder / "config").write_text("another\n", encoding="utf-8")
    third = apply(*resources)
    assert third["applied"] == ["folder", "-rf 模型", "lines"]
    reasons = [item["reason"] for item in third["resources"]]
    assert reasons == ["mode 0755", "mode 0666", "other content"]
    assert (mode(folder), mode(folder / "-rf 模型")) == (0o700, 0o640)
    assert (folder / "config").read_text(encoding="utf-8") == "another\nInclude x\n"


def test_check_mode_shows_all_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old\n", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    answer = apply(
        {"id": "folder", "type": "directory", "path": str(tmp_path / "new")},
        file(tmp_path / "new" / "f", "in it\n"),
        file(tmp_path / "there", "new\n"),
        {"id": "gone", "type": "absent", "path": str(tmp_path / "there")},
        reactions=[{"id": "r", "after": ["there"], "argv": ["false"], "remedy": ""}],
        checks=[{"id": "c", "argv": ["false"], "remedy": ""}],
        check_mode=True,
    )
    assert "failed" not in answer
    assert answer["changed"] is True
    assert answer["applied"] == answer["reactions"] == []
    assert {"before": "old\n", "after": "new\n"}.items() <= answer["diff"][2].items()
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there").read_text(encoding="utf-8") == "old\n"


def test_a_validator_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("good\n", encoding="utf-8")
    wanted = file(path, "bad\n", validate=["grep", "-q", "good", "%s"])
    for check in (True, False):
        answer = apply(wanted, check_mode=check)
        assert answer["failed"] is True
        assert "expected: grep to take it; found: exit code 1" in answer["msg"]
        assert path.read_text(encoding="utf-8") == "good\n"
        assert names(tmp_path) == ["config"]


def test_the_old_file_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for content in ("1\n", "2\n", "3\n", "3\n"):
        apply(file(path, content, backup=True, mode="0600"))
    assert names(tmp_path) == ["config", "config.before"]
    assert (tmp_path / "config.before").read_text(encoding="utf-8") == "2\n"
    assert mode(tmp_path / "config.before") == 0o600


def test_a_failure_says_what_was_applied_before(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    answer = apply(
        file(tmp_path / "a", "a"), file(tmp_path / "folder", "b"), file(tmp_path / "c", "")
    )
    assert answer["failed"] is True
    assert answer["msg"] == (
        f"expected: a file; found: a folder; where: {tmp_path}/folder (resource folder); "
        "remedy: move it out of the way; applied before: a"
    )
    assert answer["applied"] == ["a"]
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("kind", ["file", "lines", "directory"])
def test_nothing_is_written_through_a_link(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("precious\n", encoding="utf-8")
    link = tmp_path / "link"
    link.symlink_to(secret)
    answer = apply({**file(link, "x"), "type": kind, "lines": ["x"]})
    assert "found: a symbolic link" in answer["msg"]
    assert secret.read_text(encoding="utf-8") == "precious\n"
    assert link.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
def test_a_link_of_another_user_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "real")
    assert apply(file(tmp_path / "way" / "f", "x"))["applied"] == ["f"]
    os.lchown(tmp_path / "way", 65534, 65534)
    answer = apply(file(tmp_path / "way" / "g", "x"))
    assert "a symbolic link of the user id 65534" in answer["msg"]
    assert not (tmp_path / "real" / "g").exists()


@pytest.mark.parametrize("path", ["relative", "/usr/../etc/x", "", "/a\0b", "/usr/"])
def test_paths_that_are_none_are_refused(path: str) -> None:
    answer = apply({"id": "x", "type": "file", "path": path, "content": ""})
    assert "expected: an absolute path without .." in answer["msg"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    answer = apply(file(tmp_path / "no" / "f", "x"))
    assert f"found: nothing; where: {tmp_path}/no" in answer["msg"]
    assert (
        apply({"id": "x", "type": "absent", "path": str(tmp_path / "no" / "f")})["changed"] is False
    )


def test_lines_of_ours_stay_at_the_top_and_others_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"Host a\r\n  Port 1\nInclude ours\nHost b\xff")
    path.chmod(0o640)
    ours = {
        "id": "include",
        "type": "lines",
        "path": str(path),
        "lines": ["Include ours"],
        "position": "top",
        "mode": "0600",
        "only_new": True,
    }
    assert apply(ours)["changed"] is True
    assert path.read_bytes() == b"Include ours\nHost a\r\n  Port 1\nHost b\xff"
    assert mode(path) == 0o640
    assert apply(ours)["changed"] is False


def test_nothing_sensitive_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old-SECRET\n", encoding="utf-8")
    key = file(path, "new-SECRET\n", mode="0600", sensitive=True, validate=["cat", "%s"])
    assert "SECRET" not in json.dumps(apply(key))
    failing = {
        **key,
        "content": "other-SECRET",
        "validate": ["sh", "-c", 'cat "$1"; exit 1', "x", "%s"],
    }
    answer = apply(failing)
    assert answer["failed"] is True
    assert "SECRET" not in json.dumps(answer)


def test_a_secret_that_must_stay_in_memory_is_refused_on_a_disk() -> None:
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:  # noqa: PTH123
        if " /dev/shm " not in mounts.read():
            pytest.skip("no /dev/shm")
    folder = Path("/dev/shm") / f"swiftops-test-{os.getpid()}"  # noqa: S108 what is tested
    made = {"id": "folder", "type": "directory", "path": str(folder), "mode": "0700"}
    try:
        answer = apply(made, file(folder / "netrc", "x", memory_only=True, mode="0600"))
        assert "failed" not in answer
    finally:
        shutil.rmtree(folder)
    assert (
        "expected: a file system in memory"
        in apply(file(Path(__file__).parent / "no-such-file", "x", memory_only=True))["msg"]
    )
    assert not (Path(__file__).parent / "no-such-file").exists()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config"
    path.write_text("old\n", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = apply(file(path, "new\n"))
    assert "No space left on device at config; applied before: nothing" in answer["msg"]
    assert path.read_text(encoding="utf-8") == "old\n"
    assert names(tmp_path) == ["config"]


def test_reactions_follow_their_resources_and_are_made_up_for(tmp_path: Path) -> None:
    log, pending = tmp_path / "log", tmp_path / "pending"
    append = ["sh", "-c", 'echo did >> "$0"', str(log)]
    request: dict[str, Any] = {
        "reactions": [
            {"id": "one", "after": ["a"], "argv": append, "remedy": "none"},
            {"id": "other", "after": ["b"], "argv": ["false"], "remedy": "none"},
        ],
        "pending": str(pending),
    }
    (tmp_path / "folder").mkdir()
    cut = apply(file(tmp_path / "a", "1"), file(tmp_path / "folder", "x"), **request)
    assert cut["failed"] is True
    assert not log.exists()
    assert json.loads(pending.read_text(encoding="utf-8")) == ["one"]
    again = apply(file(tmp_path / "a", "1"), **request)
    assert again["applied"] == []
    assert [item["id"] for item in again["reactions"]] == ["one"]
    assert again["changed"] is True
    assert not pending.exists()
    assert apply(file(tmp_path / "a", "1"), **request)["changed"] is False
    assert log.read_text(encoding="utf-8") == "did\n"


def test_checks_are_looked_at_although_nothing_changed(tmp_path: Path) -> None:
    check = {"id": "effective", "argv": ["printf", "port 1\\nusepam no\\n"], "remedy": "mend it"}
    fine = {**check, "output": ["port 1", ["usepam yes", "usepam no"]]}
    assert "failed" not in apply(file(tmp_path / "a", "1"), checks=[fine])
    answer = apply(file(tmp_path / "a", "1"), checks=[{**check, "output": ["port 2333"]}])
    assert "['port 2333']; found: 0: port 1; where: effective; remedy: mend it" in answer["msg"]


def test_a_port_is_listened_on_or_not() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        check = {
            "id": "p",
            "port": port,
            "address": "127.0.0.1",
            "seconds": 0,
            "remedy": "start it",
        }
        assert "expected: a listener at" in apply(checks=[check])["msg"]
        server.listen()
        assert "failed" not in apply(checks=[check])
        program = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert os.getpid() in listening.listeners(program, [port])
        assert listening.listeners("no-such-program", [port]) == []


def test_where_nothing_could_listen_nothing_is_changed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        need = {"id": "n", "address": "127.0.0.1", "port": port, "program": program, "remedy": "r"}
        assert "failed" not in apply(needs=[need])
        other = {**need, "program": "no-such"}
        answer = apply(file(tmp_path / "f", "x"), needs=[other])
        assert f"a program other than no-such at 127.0.0.1:{port}" in answer["msg"]
        away = {**need, "address": "192.0.2.7"}
        assert "expected: an address of this node" in apply(needs=[away])["msg"]
        assert not (tmp_path / "f").exists()


def test_a_signal_without_its_process_says_what_to_do() -> None:
    reaction = {
        "id": "reload",
        "after": ["x"],
        "signal": "HUP",
        "program": "no-such",
        "ports": [1],
        "remedy": "start sshd",
    }
    answer = apply({"id": "x", "type": "absent", "path": "/usr/no such file"}, reactions=[reaction])
    assert answer["changed"] is False
    assert "failed" not in answer


def test_the_program_travels_on_standard_input(tmp_path: Path) -> None:
    sources = [[name, (UTILS / f"{name}.py").read_text(encoding="utf-8")] for name in SOURCES]
    request = {"resources": [file(tmp_path / "f", "é\n")]}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", START],
        input=json.dumps({"sources": sources, "request": request}).encode(),
        stdout=subprocess.PIPE,
        check=True,
        env={"LC_ALL": "C"},
    )
    assert json.loads(done.stdout)["applied"] == ["f"]
    assert (tmp_path / "f").read_text(encoding="utf-8") == "é\n"


def test_documentation_and_arguments_say_the_same() -> None:
    import yaml  # noqa: PLC0415

    def compare(documented: dict[str, Any], given: dict[str, Any]) -> None:
        assert set(documented) == set(given)
        for name, entry in documented.items():
            for key in ("type", "required", "default", "choices", "elements"):
                assert entry.get(key) == given[name].get(key), (name, key)
            compare(entry.get("suboptions", {}), given[name].get("options", {}))

    compare(yaml.safe_load(DOCUMENTATION)["options"], ARGUMENTS)
