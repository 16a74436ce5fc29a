"""What a receiver of notifications is sent, as pure functions: text, body, signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

from pyswiftops.events import Event, EventKind

LONGEST = 1500  # characters of a message; DingTalk takes 20 000 bytes a request
_OCCASIONS = {
    EventKind.RUN_FINISHED: "finished",
    EventKind.RUN_FAILED: "failed",
    EventKind.RUN_STOPPED: "stopped",
}


@dataclass(frozen=True)
class Message:
    """A request to be sent by POST.

    Attributes:
        url: The address with what belongs into its query.
        body: JSON.
        headers: Beside the content type.
    """

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def occasion(event: Event) -> str | None:
    """What an event is an occasion of, in the words of ``run.notify``; None for most events."""
    if event.kind is EventKind.ALERT:
        return str(event.data.get("kind", ""))
    return _OCCASIONS.get(event.kind)


def text(run_id: str, fleet: str, event: Event) -> str:
    """The sentence for people."""
    place = " ".join(word for word in (event.stage, event.node) if word)
    head = f"pyswiftops: run {run_id} on {fleet}: {occasion(event)}"
    if place:
        head += f" ({place})"
    detail = str(event.data.get("error") or event.data.get("detail") or "")
    if event.kind is EventKind.RUN_FINISHED:
        detail = f"after {event.data.get('seconds', 0.0):.0f} s"
    whole = f"{head}\n{detail}".strip()
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 4]} ..."


def webhook(url: str, secret: str, said: str, run_id: str, event: Event) -> Message:
    """JSON with the text and the event; signed as GitHub signs its webhooks.

    Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    body = _json({"text": said, "run_id": run_id, "event": event.to_dict()})
    if not secret:
        return Message(url, body)
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Message(url, body, {"X-Swiftops-Signature-256": f"sha256={digest}"})


def feishu(url: str, secret: str, said: str, seconds: int) -> Message:
    """A text for a Feishu or Lark custom bot.

    The string to sign is the key of an HMAC over nothing. Source:
    https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
    """
    body: dict[str, Any] = {"msg_type": "text", "content": {"text": said}}
    if secret:
        body = {"timestamp": str(seconds), "sign": feishu_sign(seconds, secret), **body}
    return Message(url, _json(body))


def feishu_sign(seconds: int, secret: str) -> str:
    """Base64 of the HMAC-SHA256 of nothing, its key being timestamp, newline and secret."""
    return _base64(hmac.new(f"{seconds}\n{secret}".encode(), b"", hashlib.sha256))


def dingtalk(url: str, secret: str, said: str, milliseconds: int) -> Message:
    """A text for a DingTalk custom bot; time and signature go into the query.

    Source: https://open.dingtalk.com/document/robots/customize-robot-security-settings
    """
    body = _json({"msgtype": "text", "text": {"content": said}})
    if secret:
        signed = quote_plus(dingtalk_sign(milliseconds, secret))
        url += f"{'&' if '?' in url else '?'}timestamp={milliseconds}&sign={signed}"
    return Message(url, body)


def dingtalk_sign(milliseconds: int, secret: str) -> str:
    """Base64 of the HMAC-SHA256 of timestamp, newline and secret, its key being the secret."""
    return _base64(hmac.new(secret.encode(), f"{milliseconds}\n{secret}".encode(), hashlib.sha256))


def refusal(kind: str, answer: Any) -> str:
    """Why a bot did not take a message, out of its answer; "" where it took it.

    Both services answer 200 and put the error into the body.
    """
    if kind == "webhook":
        return ""
    if not isinstance(answer, Mapping):
        return "an answer that is not JSON"
    code, reason = ("code", "msg") if kind == "feishu" else ("errcode", "errmsg")
    number = answer.get(code, answer.get("StatusCode", 0))
    return f"{code} {number}: {answer.get(reason, '')}" if number else ""


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode()


def _base64(digest: hmac.HMAC) -> str:
    return base64.b64encode(digest.digest()).decode()
