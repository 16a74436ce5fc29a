"""Notifications: what is sent, to a real server on the loopback address, and that nothing waits."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pyswiftops import messages, notify
from pyswiftops.errors import RunSpecError
from pyswiftops.events import Event, EventKind
from pyswiftops.notify import Notifier
from pyswiftops.specs.document import validate
from pyswiftops.specs.notify import Channel

FAILED = Event(EventKind.RUN_FAILED, "", 3.0, data={"error": "stage train failed on node-2"})
ALERT = Event(EventKind.ALERT, "train", 3.0, "node-2", {"kind": "nan", "detail": "loss is nan"})
SECONDS = 60.0


class Receiver:
    """A server that answers as it is told and keeps what it was sent."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.taken.append((self.path, dict(self.headers), body))
                receiver.go_on.wait(SECONDS)
                status, answer = receiver.answers.pop(0) if receiver.answers else (200, b"{}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook/a-token?access_token=t"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv("BOT_URL", made.url)
    monkeypatch.setenv("BOT_KEY", "SEC000")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # a machine may name one that is not there
    monkeypatch.setattr(notify, "PAUSES", (0.0, 0.0))
    yield made
    made.close()


def channel(kind: str, **more: Any) -> Channel:
    given = {"kind": kind, "url_from": {"env": "BOT_URL"}, "secret_from": {"env": "BOT_KEY"}}
    return validate(Channel, {**given, **more}, "run.yml", RunSpecError)


def test_signatures_are_those_of_the_services_own_examples() -> None:
    """The services' sample code, run with these values, gives these words."""
    assert (
        messages.feishu_sign(1599360473, "demo") == "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="
    )
    signed = messages.dingtalk_sign(1577262236757, "this is secret")
    assert signed == "hmPWwU+7lVdm3ZZz0r9tSfx0L4Q26jWOZr9+Gs6EZQM="


def test_a_feishu_bot_gets_time_and_signature_in_the_body(receiver: Receiver) -> None:
    receiver.answers = [(200, b'{"code": 0, "msg": "success"}')]
    assert notify.send(channel("feishu"), "r", "f", FAILED)["ok"]
    ((path, _, body),) = receiver.taken
    data = json.loads(body)
    assert path == urlsplit(receiver.url).path + "?access_token=t"
    assert data["sign"] == messages.feishu_sign(int(data["timestamp"]), "SEC000")
    assert abs(int(data["timestamp"]) - time.time()) < SECONDS
    assert data["msg_type"] == "text"
    said = "pyswiftops: run r on f: failed\nstage train failed on node-2"
    assert data["content"] == {"text": said}


def test_a_dingtalk_bot_gets_them_in_the_query(receiver: Receiver) -> None:
    receiver.answers = [(200, b'{"errcode": 0, "errmsg": "ok"}')]
    assert notify.send(channel("dingtalk"), "r", "f", ALERT)["ok"]
    ((path, _, body),) = receiver.taken
    query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    assert query["access_token"] == "t"  # noqa: S105 a test's
    assert query["sign"] == messages.dingtalk_sign(int(query["timestamp"]), "SEC000")
    assert abs(int(query["timestamp"]) / 1000 - time.time()) < SECONDS
    said = "pyswiftops: run r on f: nan (train node-2)\nloss is nan"
    assert json.loads(body) == {"msgtype": "text", "text": {"content": said}}


def test_a_webhook_gets_the_event_and_a_signature_of_the_body(receiver: Receiver) -> None:
    assert notify.send(channel("webhook"), "r", "f", ALERT)["ok"]
    ((_, headers, body),) = receiver.taken
    assert Event.from_dict(json.loads(body)["event"]).data == ALERT.data
    digest = hmac.new(b"SEC000", body, hashlib.sha256).hexdigest()
    assert headers["X-Swiftops-Signature-256"] == f"sha256={digest}"


@pytest.mark.parametrize(
    ("answers", "tries", "error"),
    [
        ([(503, b""), (429, b""), (200, b'{"code": 0}')], 3, ""),
        ([(500, b"")] * 3, 3, "HTTP status 500"),
        ([(404, b"")], 1, "HTTP status 404"),
        ([(200, b'{"code": 19021, "msg": "sign match fail"}')], 1, "code 19021: sign match fail"),
        ([(200, b"<html>")], 1, "an answer that is not JSON"),
    ],
)
def test_only_what_may_heal_is_tried_again(
    receiver: Receiver, answers: list[tuple[int, bytes]], tries: int, error: str
) -> None:
    receiver.answers = list(answers)
    told = notify.send(channel("feishu"), "r", "f", FAILED)
    assert told == {
        "channel": "feishu",
        "occasion": "failed",
        "ok": not error,
        "tries": tries,
        "error": error,
    }


def test_a_receiver_that_hangs_delays_nothing_and_the_queue_is_bounded(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "LAST_SECONDS", 0.1)
    monkeypatch.setattr(notify, "TIMEOUT_SECONDS", SECONDS)
    receiver.go_on.clear()
    outcomes: list[Any] = []
    notifier = Notifier([channel("webhook", on=["nan"])], "r", "f", outcomes.append)
    notifier(FAILED)  # not asked for
    notifier(ALERT)
    deadline = time.monotonic() + SECONDS
    while not receiver.taken:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(notify.WAITING + 5):
        notifier(ALERT)
    notifier.close()
    assert outcomes == []
    receiver.go_on.set()
    while len(outcomes) < notify.WAITING + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert outcomes[0]["dropped"] == 5
    assert len(receiver.taken) == notify.WAITING + 1


def test_no_outcome_tells_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PAUSES", ())
    for url in ("http://127.0.0.1:1/hook/a-token", "http://[::1", "ftp://a-token.example", ""):
        monkeypatch.setenv("BOT_URL", url)
        told = notify.send(channel("webhook", secret_from=None), "r", "f", FAILED)
        assert told["ok"] is False
        assert "token" not in json.dumps(told)
        assert "127.0.0.1" not in json.dumps(told)


def test_what_cannot_be_used_is_found_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("SEC000\n", encoding="utf-8")
    key.chmod(0o644)
    monkeypatch.setenv("BOT_URL", "https://bot.example/a-token")
    monkeypatch.delenv("BOT_KEY", raising=False)
    channels = [channel("feishu"), channel("dingtalk", secret_from={"file": str(key)})]
    unset, readable = notify.check(channels)
    assert unset.remedy.startswith("export BOT_KEY=")
    assert readable.remedy == f"chmod 600 {key}"
    key.chmod(0o600)
    assert notify.check(channels[1:]) == []
    monkeypatch.setenv("BOT_URL", "http://bot.example/a-token")
    (plain,) = notify.check(channels[1:])
    assert "a-token" not in str(plain)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url_from": "https://bot.example/a-token"},
        {"url_from": {"env": "A", "file": "/b"}},
        {"url_from": {}},
        {"url_from": {"file": "relative"}},
        {"on": []},
        {"on": ["done"]},
        {"kind": "slack"},
    ],
)
def test_a_channel_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunSpecError):
        channel(**{"kind": "webhook", **wrong})


@pytest.mark.slow
def test_the_command_sends_a_test_message(receiver: Receiver, tmp_path: Path) -> None:
    run: dict[str, Any] = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 1},
        "notify": [{"kind": "webhook", "url_from": {"env": "BOT_URL"}, "on": ["failed"]}],
    }
    file = tmp_path / "run.yml"
    file.write_text(yaml.safe_dump({"run": run}), encoding="utf-8")
    command = [sys.executable, "-m", "pyswiftops.cli.main", "notify", "-r", str(file)]

    def swiftops(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False, timeout=SECONDS
        )

    assert swiftops().returncode == 0
    assert receiver.taken == []
    sent = swiftops("--test")
    assert sent.returncode == 0, sent.stderr
    assert "this is only a test" in json.loads(receiver.taken[0][2])["text"]
    receiver.answers = [(403, b"")]
    refused = swiftops("--test")
    assert refused.returncode == 1
    assert "HTTP status 403" in refused.stdout
    run["notify"] = []
    file.write_text(yaml.safe_dump({"run": run}), encoding="utf-8")
    assert swiftops("--test").returncode == 2
