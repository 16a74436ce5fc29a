"""Connections beside ssh, by TLS or plain: proven, cut, and done without.

Programs of this machine stand for the far end, as they do elsewhere behind ssh.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyswiftops.planner.fetching import reach
from pyswiftops.planner.gathering import GatherPlan, Target
from pyswiftops.specs.fleet import Fleet

Utils = Callable[[str], ModuleType]
MIB = 1024 * 1024
NAMES = ("a.bin", "b.bin")


@pytest.fixture(autouse=True)
def _on_loopback(utils: Utils, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind ssh, but without it: the far end listens where no sshd says otherwise."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(utils("stream"), "Near", utils("stream").Stream)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Two files of some mebibytes."""
    folder = tmp_path / "there"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(os.urandom(8 * MIB + 5))
    return folder


@pytest.fixture(params=["tls", "tcp"])
def way(request: pytest.FixtureRequest) -> str:
    """What the connection is; plain only on a trusted network."""
    return str(request.param)


def source(utils: Utils, there: Path, way: str) -> Any:
    plain = way == "tcp"
    return utils("stream").Source(
        "node-2", str(there), None, sys.executable, direct=True, trusted=plain
    )


def gathered(utils: Utils, there: Path, dest: Path, way: str) -> tuple[dict[str, Any], list[str]]:
    """A gather of all of it: its answer, and what it said."""
    files = {
        path.name: {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
        for path in there.iterdir()
    }
    part = {"node": "node-2", "path": str(there), "python": sys.executable, "files": files}
    part |= {"direct": True, "trusted": way == "tcp"}
    asked = {"parts": [part], "dest": str(dest), "streams": 2}
    said: list[str] = []
    return utils("gather").gather(utils("request").Request.from_dict(asked), said.append), said


def same(there: Path, dest: Path) -> bool:
    return all((dest / name).read_bytes() == (there / name).read_bytes() for name in NAMES)


def altered(utils: Utils, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes) -> None:
    """Have far ends run another program."""
    honest = utils("stream")._program()
    assert before in honest
    program = honest.replace(before, after)
    monkeypatch.setattr(utils("stream"), "_program", lambda: program)


def test_files_come_over_a_connection_beside_ssh(
    utils: Utils, there: Path, tmp_path: Path, way: str
) -> None:
    answer, said = gathered(utils, there, tmp_path / "dest", way)
    assert same(there, tmp_path / "dest")
    assert answer["transports"] == {"node-2": way}
    assert answer["moved"] == answer["bytes"]
    assert not [line for line in said if "ssh" in line]


@contextmanager
def listened_to(utils: Utils, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytearray]:
    """What goes over connections, as somebody on the way sees it."""
    honest, heard = utils("direct").connect, bytearray()

    def pass_on(come: socket.socket, go: socket.socket) -> None:
        while data := come.recv(MIB):
            heard.extend(data)
            go.sendall(data)
        with suppress(OSError):
            go.shutdown(socket.SHUT_WR)

    def between(listener: socket.socket, told: dict[str, Any]) -> None:
        one = listener.accept()[0]
        other = socket.create_connection((told["address"], told["port"]))
        back = threading.Thread(target=pass_on, args=(other, one), daemon=True)
        back.start()
        pass_on(one, other)

    def connect(told: dict[str, Any], own: str) -> Any:
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=between, args=(listener, told), daemon=True).start()
        return honest({**told, "port": listener.getsockname()[1]}, own)

    monkeypatch.setattr(utils("direct"), "connect", connect)
    yield heard


def test_by_tls_nobody_on_the_way_reads_what_comes(
    utils: Utils, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (there / "a.bin").write_bytes(b"weights of somebody" * 60_000)
    with listened_to(utils, monkeypatch) as heard:
        answer, _ = gathered(utils, there, tmp_path / "dest", way)
    assert same(there, tmp_path / "dest")
    assert answer["transports"] == {"node-2": way}
    assert len(heard) > answer["bytes"]
    assert (b"weights of somebody" in heard) == (way == "tcp")


def test_a_certificate_that_is_another_is_refused(utils: Utils, there: Path) -> None:
    direct = utils("direct")
    with far_end(utils, there, "tls") as (_, told):
        mine = direct.certificate()
        direct.certificate.cache_clear()
        with pytest.raises(direct.UnreachableError, match="has another certificate"):
            direct.connect(told, direct.certificate())
        direct.connect(told, mine).close()


def test_without_openssl_files_come_through_ssh(
    utils: Utils, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utils("direct").certificate.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        answer, said = gathered(utils, there, tmp_path / "dest", "tls")
    assert same(there, tmp_path / "dest")
    assert answer["transports"] == {"node-2": "ssh"}
    assert any("no openssl here, for TLS" in line for line in said)


def test_bytes_that_change_on_their_way_are_not_written(
    utils: Utils, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    lie = b"self.emit(message, bytes(len(data)))"
    altered(utils, monkeypatch, b"self.emit(message, data)", lie)
    with pytest.raises(utils("errors").GatherError, match="not what was hashed there"):
        gathered(utils, there, tmp_path / "dest", way)
    assert not (tmp_path / "dest").exists()


@contextmanager
def far_end(utils: Utils, there: Path, way: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A stream whose far end listens, and what that told; nobody has connected."""
    stream, direct = utils("stream"), utils("direct")
    told: dict[str, Any] = {}

    def note(message: dict[str, Any], _own: str) -> None:
        told.update(message)
        raise direct.UnreachableError("not yet")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "connect", note)
        one = stream.Stream(source(utils, there, way))
    try:
        yield one, told
    finally:
        one.close()


def test_a_wrong_secret_is_refused_and_the_right_one_is_served(utils: Utils, there: Path) -> None:
    direct = utils("direct")
    with far_end(utils, there, "tcp") as (_, told):
        with pytest.raises(direct.UnreachableError, match="is not the sender: the other end hung"):
            direct.connect({**told, "secret": "00" * 32})
        with socket.create_connection((told["address"], told["port"])) as stranger:
            stranger.sendall(bytes(48))
            nonce = stranger.recv(100)
            assert len(nonce) == 16
            assert not stranger.recv(100)  # hung up, and nothing was served
        direct.connect(told).close()


def test_a_far_end_without_the_secret_is_refused_and_never_hears_it(utils: Utils) -> None:
    direct, secret, heard = utils("direct"), bytes(range(32)), []

    def impostor() -> None:
        connection = listener.accept()[0]
        with connection:
            connection.sendall(bytes(16))
            heard.append(connection.recv(1000))
            connection.sendall(bytes(32))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=impostor)
        thread.start()
        told = {"address": "127.0.0.1", "port": listener.getsockname()[1], "secret": secret.hex()}
        with pytest.raises(direct.UnreachableError, match="has not got the secret"):
            direct.connect(told)
        thread.join()
    assert len(heard[0]) == 48
    assert secret not in heard[0]
    assert secret.hex().encode() not in heard[0]


def test_a_port_that_cannot_be_reached_leaves_ssh(
    utils: Utils, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    altered(utils, monkeypatch, b'"port": port', b'"port": 1')
    answer, said = gathered(utils, there, tmp_path / "dest", way)
    assert same(there, tmp_path / "dest")
    assert answer["transports"] == {"node-2": "ssh"}
    (notice,) = [line for line in said if "ssh" in line]
    assert notice.startswith("gather: node-2: port 1 of 127.0.0.1 cannot be reached: ")
    assert notice.endswith("its files come through ssh")


def test_a_port_that_does_not_answer_is_given_up_in_seconds(
    utils: Utils, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(utils("sender"), "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        altered(utils, monkeypatch, b'"port": port', f'"port": {port}'.encode())
        answer, said = gathered(utils, there, tmp_path / "dest", way)
    assert same(there, tmp_path / "dest")
    assert answer["transports"] == {"node-2": "ssh"}
    assert any("is not the sender: " in line and "timed out" in line for line in said)


def test_an_address_that_cannot_be_listened_on_leaves_ssh(
    utils: Utils, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """An sshd that was not reached over IP names none."""
    monkeypatch.setenv("SSH_CONNECTION", "UNKNOWN 65535 UNKNOWN 65535")
    answer, said = gathered(utils, there, tmp_path / "dest", way)
    assert same(there, tmp_path / "dest")
    assert answer["transports"] == {"node-2": "ssh"}
    assert any("cannot listen" in line for line in said)


def cut_lifeline(one: Any) -> None:
    one._process.kill()


def cut_connection(one: Any) -> None:
    with socket.socket(fileno=socket.dup(one._from.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("cut", [cut_lifeline, cut_connection])
def test_what_came_before_a_cut_is_not_sent_again(
    utils: Utils, there: Path, tmp_path: Path, cut: Callable[[Any], None], way: str
) -> None:
    stream = utils("stream")
    wish = stream.Wish("a.bin", (there / "a.bin").stat().st_size)
    came: list[int] = []

    def first(moved: int, _kept: int) -> None:
        came.append(moved)
        if len(came) == 4:
            cut(one)

    slow = replace(source(utils, there, way), rate=8 * MIB)  # else all is on its way before the cut
    one = stream.Stream(slow)
    assert one.transport == way
    with pytest.raises(stream.StreamError, match="the stream broke"):
        list(one.fetch([wish], tmp_path, first))
    one.close()
    assert 4 * MIB <= sum(came) < wish.size
    again = stream.Stream(source(utils, there, way))
    ((_, arrived),) = again.fetch([wish], tmp_path, lambda _moved, _kept: None)
    again.close()
    assert arrived.moved == wish.size - sum(came)
    assert (tmp_path / "a.bin").read_bytes() == (there / "a.bin").read_bytes()


def test_the_far_end_does_not_outlive_its_lifeline(utils: Utils, there: Path, way: str) -> None:
    one = utils("stream").Stream(source(utils, there, way))
    wish = utils("stream").Wish("a.bin", 8 * MIB + 5)
    for _ in one.fetch([wish], there / "to", lambda _moved, _kept: None):
        one._process.stdin.close()
        assert one._process.wait(timeout=10) == 1
    one.close()


def test_the_plan_says_how_bytes_come() -> None:
    def lines(*ways: str) -> str:
        parts = [
            {
                "remote": None if way == "local" else {"host": "node"},
                "direct": way != "controller",
                "trusted": way == "trusted",
            }
            for way in ways
        ]
        target = Target("node-1", "/data")
        return "\n".join(GatherPlan(target, "", {}, {}, {"parts": parts}).lines())

    assert "transport: plain TCP, proven through ssh" in lines("trusted", "trusted", "local")
    assert "transport: TLS, proven through ssh; or ssh" in lines("trusted", "other")
    assert "transport: ssh, encrypted" in lines("controller", "controller")
    assert "transport" not in lines("local")


def test_the_network_is_trusted_only_where_the_fleet_says_so(tmp_path: Path) -> None:
    def ways(*more: str) -> list[Any]:
        text = ["plugin: pyswiftops.fleet.fleet", "runtime: host", *more, "nodes:"]
        text += ["  - {name: node-1, address: 192.0.2.1}"]
        (tmp_path / "fleet.yml").write_text("\n".join(text))
        variables = Fleet.load(tmp_path / "fleet.yml").host_vars()["node-1"]
        reached = [reach(variables, controller=controller) for controller in (False, True)]
        return [(way["direct"], way["trusted"]) for way in reached]

    other = (False, False)  # the controller is not among the nodes
    assert ways() == [(True, False), other]
    assert ways("trusted_network: true") == [(True, True), other]
    assert reach({"swiftops_python": "p", "swiftops_address": "a"})["trusted"] is False


def test_the_far_end_runs_as_a_file_of_its_own(utils: Utils) -> None:
    """It is sent as text: nothing of the collection is imported there."""
    program = utils("stream")._program()
    argv = [sys.executable, "-I", "-c", program.decode()]
    done = subprocess.run(argv, input=b"\n", capture_output=True, check=True)
    assert done.stdout.startswith(b'{"hashes": ')
