"""Pull over a real sshd and a real rsync on the loopback address."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.client import Client
from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

COLLECTION = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.fleet

HOSTILE = (
    ".metadata",
    "a b/c'd\".txt",
    "semi;rm -rf $HOME/`id`",
    "#comment",
    "-rf",
    "star*?[1]",
    "back\\slash",
    "new\nline",
    "模型/权重.safetensors",
    "deep/.hidden/__0_0.distcp",
)


@dataclass
class Server:
    """A throwaway sshd."""

    port: int
    options: list[str]

    def source(self, path: Path) -> dict[str, Any]:
        return {
            "path": str(path),
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "ssh_options": self.options,
        }


@pytest.fixture(scope="module", autouse=True)
def modules() -> Iterator[dict[str, Any]]:
    """The collection's transfer code, imported from this checkout."""
    from importlib import import_module  # noqa: PLC0415 - see below

    prefix = "ansible_collections.pyswiftops.fleet.plugins.module_utils"
    names = ("manifest", "rsync", "transfer")
    try:
        yield {name: import_module(f"{prefix}.{name}") for name in names}
    except ModuleNotFoundError:
        for loaded in [name for name in sys.modules if name.split(".")[0] == "ansible_collections"]:
            del sys.modules[loaded]
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            link = Path(folder) / "ansible_collections/pyswiftops/fleet"
            link.parent.mkdir(parents=True)
            link.symlink_to(COLLECTION)
            patch.syspath_prepend(folder)
            yield {name: import_module(f"{prefix}.{name}") for name in names}


def _free_port() -> int:
    for port in range(23010, 23100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port from 23010 to 23099 is free for sshd")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Start sshd with its own host key and one authorized key; end it by its pid."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("rsync") is None:
        pytest.fail("expected sshd and rsync; install them: apt-get install openssh-server rsync")
    with tempfile.TemporaryDirectory(prefix="pull ssh '") as folder:
        home = Path(folder)
        for name in ("host", "user"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
            subprocess.run(argv, check=True)
        port = _free_port()
        plain = Path(tempfile.mkdtemp(prefix="sshd-"))  # sshd_config quotes differ by version
        shutil.copy(home / "host", plain / "host")
        shutil.copy(home / "user.pub", plain / "authorized")
        (plain / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {plain}/host\nPidFile none\n"
            f"AuthorizedKeysFile {plain}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )
        public = (home / "host.pub").read_text().split()[:2]
        (plain / "known").write_text(f"[127.0.0.1]:{port} {' '.join(public)}\n")
        options = ["-F", "none", "-i", str(home / "user"), "-o", "IdentitiesOnly=yes"]
        options += ["-o", f"UserKnownHostsFile={plain}/known", "-o", "StrictHostKeyChecking=yes"]
        Path("/run/sshd").mkdir(exist_ok=True)
        log = (plain / "log").open("w")
        daemon = subprocess.Popen([sshd, "-D", "-e", "-f", plain / "config"], stderr=log)
        try:
            deadline = time.monotonic() + 10
            while "listening" not in (plain / "log").read_text():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"sshd did not start: {(plain / 'log').read_text()}")
                time.sleep(0.05)
            yield Server(port, options)
        finally:
            daemon.terminate()
            daemon.wait(10)
            log.close()
            shutil.rmtree(plain)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with hostile names, beside one that its name would match as a glob."""
    root = tmp_path / "sour ce'[1]; $x"
    decoy = tmp_path / "sour ce'1; $x"
    for number, name in enumerate(HOSTILE):
        for folder, byte in ((root, number), (decoy, 255)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([byte]) * (1000 + number))
    return root


def pull(
    modules: dict[str, Any], source: dict[str, Any], dest: Path, files: dict[str, Any]
) -> list[str]:
    checked = modules["manifest"].validated(files)
    todo = modules["transfer"].plan(dest, checked, "true")
    if todo.copy:
        modules["rsync"].pull(modules["rsync"].Remote(**source), dest, checked, todo, "true")
    return list(todo.copy)


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_hostile_names_arrive_with_their_bytes_and_times(
    server: Server, source: Path, tmp_path: Path, modules: dict[str, Any]
) -> None:
    files = modules["manifest"].build(str(source))["files"]
    dest = tmp_path / "far" / "de st;'"

    assert pull(modules, server.source(source), dest, files) == sorted(files)
    assert tree(dest) == tree(source)
    assert modules["manifest"].build(str(dest))["files"] == files
    assert [p.name for p in dest.parent.iterdir()] == [dest.name]  # the staging folder is gone
    assert pull(modules, server.source(source), dest, files) == []


def test_only_what_differs_travels(
    server: Server, source: Path, tmp_path: Path, modules: dict[str, Any]
) -> None:
    files = modules["manifest"].build(str(source))["files"]
    dest = tmp_path / "dest"
    shutil.copytree(source, dest)
    (dest / ".metadata").write_bytes(b"Z" * 1000)
    (dest / "mine").write_bytes(b"keep")
    assert pull(modules, server.source(source), dest, files) == [".metadata"]
    assert tree(dest) == {**tree(source), "mine": b"keep"}


def test_a_source_that_changed_is_refused_and_leaves_no_final_name(
    server: Server, source: Path, tmp_path: Path, modules: dict[str, Any]
) -> None:
    files = modules["manifest"].build(str(source))["files"]
    (source / ".metadata").write_bytes(b"!" * 1000)
    changed = modules["manifest"].build(str(source), [".metadata"])["files"][".metadata"]
    dest = tmp_path / "dest"
    with pytest.raises(modules["transfer"].PullError) as refused:
        pull(modules, server.source(source), dest, files)
    assert files[".metadata"]["blake2b"] in str(refused.value)
    assert changed["blake2b"] in str(refused.value)
    assert str(dest / ".metadata") in str(refused.value)
    assert not (dest / ".metadata").exists()
    assert len(tree(dest)) == len(files) - 1


def test_a_pull_that_was_killed_is_continued(
    server: Server, tmp_path: Path, modules: dict[str, Any]
) -> None:
    """The staged half holds the right bytes; a wrong staged file is fetched anew."""
    source = tmp_path / "source"
    source.mkdir()
    data = {"half": os.urandom(8 << 20), "wrong": os.urandom(1 << 20)}
    for name, content in data.items():
        (source / name).write_bytes(content)
    files = modules["manifest"].build(str(source))["files"]
    dest = tmp_path / "dest"
    remote = modules["rsync"].Remote(**server.source(source))
    staging = modules["rsync"].staging_folder(remote, dest)
    staging.mkdir()
    (staging / "half").write_bytes(data["half"][: 5 << 20])
    (staging / "wrong").write_bytes(b"x" * (1 << 20))
    times = (files["wrong"]["mtime_ns"],) * 2
    os.utime(staging / "wrong", ns=times)  # looks complete to rsync

    pull(modules, server.source(source), dest, files)
    assert tree(dest) == data
    assert not staging.exists()


def test_a_push_brings_hostile_names_and_mends_what_looks_whole(
    server: Server, source: Path, tmp_path: Path, modules: dict[str, Any]
) -> None:
    files = modules["manifest"].build(str(source))["files"]
    dest = tmp_path / "far" / "de st;'"
    dest.mkdir(parents=True)
    (dest / "-rf").write_bytes(b"?" * files["-rf"]["size"])
    os.utime(dest / "-rf", ns=(files["-rf"]["mtime_ns"],) * 2)
    remote = modules["rsync"].Remote(**server.source(dest))

    modules["rsync"].push(source, remote, sorted(files))
    assert modules["transfer"].plan(dest, files, "true").copy == ("-rf",)
    modules["rsync"].push(source, remote, ["-rf"], checksum=True)
    assert tree(dest) == tree(source)
    assert modules["manifest"].build(str(dest))["files"] == files

    with pytest.raises(modules["transfer"].PullError, match="run again to continue"):
        modules["rsync"].push(source, remote, ["no such file"])


@pytest.mark.timeout(300)
def test_the_stage_fetch_sends_what_lies_on_the_controller(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    key = server.options[server.options.index("-i") + 1]
    known = next(item for item in server.options if item.startswith("UserKnownHostsFile="))
    model = tmp_path / "my 'model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (model / "#w 1.safetensors").write_bytes(os.urandom(1 << 20))
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "host",
        "device": "cpu",
        "root": str(tmp_path / "ro ot"),
        "python": sys.executable,
        "ssh": {
            "user": getpass.getuser(),
            "private_key": key,
            "options": {"UserKnownHostsFile": known.partition("=")[2], "IdentitiesOnly": "yes"},
        },
        "nodes": [{"name": "n1", "address": "127.0.0.1", "port": server.port}],
    }
    run = {
        "name": "r",
        "model": {"path": str(model), "at": "controller"},
        "data": {"train": ["/nowhere.jsonl"]},
        "training": {"iterations": 1},
    }
    fleet = Fleet.from_document(document, tmp_path / "fleet.yml")
    spec = RunSpec.from_document({"run": run}, tmp_path / "run.yml")
    plan = make_plan(fleet, spec, "r")
    Client(tmp_path / "runs").apply(plan, stages=["fetch"])
    (there,) = (tmp_path / "ro ot" / "n1" / "hub").glob("controller/models/*/my 'model")
    assert tree(there) == tree(model)


def test_a_missing_file_and_a_missing_key_say_what_to_do(
    server: Server, source: Path, tmp_path: Path, modules: dict[str, Any]
) -> None:
    files = modules["manifest"].build(str(source))["files"]
    (source / "-rf").unlink()
    with pytest.raises(modules["transfer"].PullError, match=r"-rf.*No such file.*run again"):
        pull(modules, server.source(source), tmp_path / "dest", files)
    stranger = {**server.source(source), "ssh_options": [*server.options[:2], *server.options[4:]]}
    with pytest.raises(modules["transfer"].PullError, match=r"code 255.*ssh -p \d+ .*true"):
        pull(modules, stranger, tmp_path / "dest-2", files)


def test_an_unknown_host_key_is_refused(
    server: Server, source: Path, tmp_path: Path, modules: dict[str, Any]
) -> None:
    files = modules["manifest"].build(str(source))["files"]
    options = [o.replace("/known", "/no-such-file") for o in server.options]
    with pytest.raises(modules["transfer"].PullError, match="Host key verification failed"):
        pull(modules, {**server.source(source), "ssh_options": options}, tmp_path / "d", files)
