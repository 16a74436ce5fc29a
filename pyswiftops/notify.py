"""Tells the receivers of ``run.notify`` what happens in a run; never fails or delays the run."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from typing import Any
from urllib.parse import urlsplit

from pyswiftops import messages
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.events import Event, EventKind
from pyswiftops.specs.notify import Channel, Source

PAUSES = (1.0, 3.0, 9.0)
TIMEOUT_SECONDS = 10.0
LAST_SECONDS = 20.0
WAITING = 64
_BUSY = 429
_SERVER = 500
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Told = Callable[[Mapping[str, Any]], None]


def check(channels: Iterable[Channel]) -> list[Finding]:
    """What keeps channels from being used, such as a variable that is not set."""
    findings: list[Finding] = []
    for number, channel in enumerate(channels):
        try:
            _resolve(channel, f"notify.{number}")
        except BadInputError as problem:
            findings += problem.findings
    return findings


def _resolve(channel: Channel, where: str) -> tuple[str, str]:
    url = _read(channel.url_from, f"{where}.url_from")
    if not _is_safe(url):
        raise BadInputError(
            Finding(
                "an https address (http only on loopback)",
                "another one; it is not shown, since it is a secret",
                f"{where}.url_from",
                "copy the address anew from the receiver's settings",
            )
        )
    return url, _read(channel.secret_from, f"{where}.secret_from") if channel.secret_from else ""


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    on_loopback = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return bool(parts.hostname) and (parts.scheme == "https" or on_loopback)


def _read(source: Source, where: str) -> str:
    if source.env is not None:
        value = os.environ.get(source.env, "").strip()
        if not value:
            remedy = f"export {source.env}=..., in the shell that runs swiftops"
            raise BadInputError(
                Finding(f"the environment variable {source.env}", "none", where, remedy)
            )
        return value
    path = Path(str(source.file)).expanduser()
    expected = "a file that only you can read, with the secret in its first line"
    try:
        found = path.stat()
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInputError(
            Finding(expected, str(problem), f"{where}: {path}", "name a file that you can read")
        ) from None
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        raise BadInputError(Finding(expected, mode, f"{where}: {path}", f"chmod 600 {path}"))
    if not lines or not lines[0].strip():
        raise BadInputError(Finding(expected, "an empty file", f"{where}: {path}", "write it"))
    return lines[0].strip()


def send(channel: Channel, run_id: str, fleet: str, event: Event) -> dict[str, Any]:
    """Send one message, trying again where that may help.

    Returns:
        ``channel`` (its kind), ``occasion``, ``ok``, ``tries`` and ``error``; never an address.
    """
    told = {"channel": channel.kind, "occasion": messages.occasion(event) or "test"}
    try:
        url, secret = _resolve(channel, "notify")
    except BadInputError as problem:
        error = f"{problem.findings[0].where}: {problem.findings[0].found}"
        return {**told, "ok": False, "tries": 0, "error": error}
    said = messages.text(run_id, fleet, event)
    error, tries = "", 0
    for pause in (*PAUSES, None):
        tries += 1
        now = time.time()
        match channel.kind:
            case "feishu":
                message = messages.feishu(url, secret, said, int(now))
            case "dingtalk":
                message = messages.dingtalk(url, secret, said, int(now * 1000))
            case _:
                message = messages.webhook(url, secret, said, run_id, event)
        error, again = _post(channel.kind, message)
        if not error or not again or pause is None:
            break
        time.sleep(pause)
    return {**told, "ok": not error, "tries": tries, "error": error}


def _post(kind: str, message: messages.Message) -> tuple[str, bool]:
    """Why it was not taken ("" if it was), and whether another try may help."""
    import httpx  # noqa: PLC0415 it costs a third of a second, and most runs tell nobody

    headers = {"Content-Type": "application/json; charset=utf-8", **message.headers}
    try:
        answer = httpx.post(
            message.url, content=message.body, headers=headers, timeout=TIMEOUT_SECONDS
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as problem:
        return type(problem).__name__, True  # its text may hold the address
    if not answer.is_success:
        again = answer.status_code == _BUSY or answer.status_code >= _SERVER
        return f"HTTP status {answer.status_code}", again
    try:
        return messages.refusal(kind, answer.json()), False
    except ValueError:
        return messages.refusal(kind, None), False


class Notifier:
    """A listener to a run's events that sends messages from a thread of its own.

    Args:
        channels: The receivers.
        run_id: The run's id.
        fleet: The fleet's name.
        on_told: Called with the outcome of every message, from the notifier's thread.
    """

    def __init__(self, channels: Iterable[Channel], run_id: str, fleet: str, on_told: Told) -> None:
        self._channels = tuple(channels)
        self._run_id, self._fleet, self._on_told = run_id, fleet, on_told
        self._queue: Queue[tuple[Channel, Event] | None] = Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def __call__(self, event: Event) -> None:
        """Put an event into the queue of each channel that wants it; where it is full, drop it."""
        what = messages.occasion(event)
        for channel in self._channels:
            if what not in channel.on:
                continue
            try:
                self._queue.put_nowait((channel, event))
            except Full:
                self._dropped += 1
                continue
            if self._thread is None:
                # a daemon: what hangs in the network must not keep the process
                self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait, but not for long, until what is in the queue has been sent."""
        if self._thread is None:
            return
        begin = time.monotonic()
        with suppress(Full):
            self._queue.put(None, timeout=LAST_SECONDS)
            self._thread.join(max(0.0, begin + LAST_SECONDS - time.monotonic()))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            channel, event = item
            told = send(channel, self._run_id, self._fleet, event)
            if self._dropped:
                told["dropped"], self._dropped = self._dropped, 0
            self._on_told(told)


def try_out(channels: Iterable[Channel], run_id: str, fleet: str) -> list[dict[str, Any]]:
    """Send a test message to every channel, whatever it wants to be told of."""
    event = Event(EventKind.ALERT, "", 0.0, data={"kind": "test", "detail": "this is only a test"})
    return [send(channel, run_id, fleet, event) for channel in channels]
