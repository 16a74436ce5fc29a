"""Takes out of text and data what must not leave a site: secrets, addresses, names of people.

Secrets become ``REDACTED``. Addresses, hosts, people and home folders become names that stay
the same within one :class:`Redactor`, so that what happened can still be followed.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

REDACTED = "REDACTED"
VERSIONS = frozenset({"packages", "differ", "tools"})
"""Keys of data whose values are versions, which may look like addresses."""

_KINDS = (
    r"(?:token|secret|password|passwd|passphrase|pwd|credentials?|cookie|api[_-]?key|apikey"
    r"|access[_-]?key(?:[_-]?(?:id|secret))?|secret[_-]?key|private[_-]?key|webhook(?:[_-]?url)?)"
)
_NAME = re.compile(rf"(?i)(?:.*[^a-z0-9])?-*{_KINDS}|.*[a-z](?:Token|Secret|Password|ApiKey)")
_NO_SECRET = re.compile(
    r"(?i)-*(?:eos|bos|pad|unk|sep|cls|mask|image|video|audio|special|begin|end|stop)_?token"
)
_VALUE = r"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s"'&,;<>(){}\[\]]+)"""
_NAMED = re.compile(
    rf"(?i)(?P<name>{_KINDS})"
    rf"(?P<between>[\"']?\s*[:=]\s*|(?<=\w)[\"']?\s*,\s*(?=[\"'])|[ \t]+)(?P<value>{_VALUE})"
)
_QUERY = re.compile(r"(?i)([?&](?:key|sign|signature|sig|auth|code|ticket)=)[^&\s\"'<>]+")
_HEADER = re.compile(
    r"(?i)((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)((?:bearer|basic|token|digest)\s+)?"
    r"[^\s\"',;]+"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}")
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/@\"'<>]+@")
_WEBHOOK = re.compile(
    r"(?i)(/open-apis/bot/v2/hook/|hooks\.slack\.com/services/|/api/webhooks/"
    r"|/webhook/)[\w/.-]+"
)
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9_-])(?:hf_[A-Za-z0-9]{16,}"
    r"|ms-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{12,}"
    r"|sk-[A-Za-z0-9_-]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[\w-]{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|LTAI[A-Za-z0-9]{12,}|AIza[\w-]{30,}"
    r"|xox[abeprs]-[\w-]{10,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|dckr_pat_[\w-]{16,}"
    r"|eyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]*)"
)
_EMAIL = re.compile(r"(?<![\w.+/-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.-])(?<!==)(?:\d{1,3}\.){3}\d{1,3}(?![\w-])(?!\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_MAC = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")
_HOME = re.compile(r"(/home/|/Users/)([^/\s\"':;,]+)")
_PLAIN_NODE = re.compile(r"(?:node|rank|worker)-?\d+|localhost")
_SHORTEST_NAME = 3
_LONGEST_NAME = 80
_BEFORE = re.compile(r"[\w.-]*\Z")


class Redactor:
    """Redacts texts that belong together.

    Args:
        hosts: Names of machines; those like ``node-1`` and ``localhost`` tell nothing and stay.
        users: Login names; root stays.

    Attributes:
        counts: How often something of each kind was taken out.
    """

    def __init__(self, hosts: Iterable[str] = (), users: Iterable[str] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._known: dict[str, dict[str, str]] = {}
        told = {name for name in hosts if name and not _PLAIN_NODE.fullmatch(name)}
        self._hosts = _words(name for name in told if not _address(name))
        self._users = _words(name for name in users if name and name != "root")

    def text(self, text: str) -> str:
        """The text without what must not leave; redacting it again changes nothing."""
        for pattern, replace in self._rules():
            text = pattern.sub(replace, text)
        return text

    def data(self, value: Any, *, versions: bool = False) -> Any:
        """The same for nested data: by the names of keys, and every string in it."""
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): self._secret()
                if _is_secret(str(key)) and isinstance(item, str | int) and item not in ("", None)
                else self.data(item, versions=versions or str(key) in VERSIONS)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return self._words_of(value, versions=versions)
        if isinstance(value, str) and not versions:
            return self.text(value)
        return value

    def _words_of(self, words: Iterable[Any], *, versions: bool) -> list[Any]:
        """A list, where a word after ``--api_key`` is that flag's value."""
        found: list[Any] = []
        flag = False
        for word in words:
            found.append(self._secret() if flag else self.data(word, versions=versions))
            flag = isinstance(word, str) and word.startswith("--") and _is_secret(word)
        return found

    def _rules(self) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
        rules: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
            (_KEY_BLOCK, self._secret),
            (_HEADER, lambda found: self._after(found[1] + (found[2] or ""))),
            (_BEARER, lambda found: self._after(found[1])),
            (_URL, lambda found: self._after(found[1], "@")),
            (_WEBHOOK, lambda found: self._after(found[1])),
            (_QUERY, lambda found: self._after(found[1])),
            (_NAMED, self._named),
            (_SHAPES, self._secret),
            (_EMAIL, lambda found: self._alias("email", found[0])),
            (_MAC, lambda found: self._alias("mac", found[0].lower())),
            (_IPV4, self._ip),
            (_IPV6, self._ip),
            (_HOME, lambda found: found[1] + self._user(found[2])),
        ]
        if self._hosts:
            rules.append((self._hosts, lambda found: self._alias("host", found[0])))
        if self._users:
            rules.append((self._users, lambda found: self._user(found[0])))
        return rules

    def _secret(self, _found: re.Match[str] | None = None) -> str:
        self.counts["secret"] += 1
        return REDACTED

    def _after(self, kept: str, ending: str = "") -> str:
        return f"{kept}{self._secret()}{ending}"

    def _named(self, found: re.Match[str]) -> str:
        """``name=value``; where only blanks stand between, the name must be a flag."""
        name, between, value = found["name"], found["between"], found["value"]
        before = _BEFORE.search(found.string, max(0, found.start() - _LONGEST_NAME), found.start())
        whole = f"{before[0] if before else ''}{name}"
        flag = whole.startswith("--")
        inside = value.strip("\"'")
        apart = not re.search(r"[:=]", between)
        if _NO_SECRET.fullmatch(whole) or (apart and not flag):
            return found[0]
        if inside.lower() in {"", "none", "null", "true", "false"} or inside == REDACTED:
            return found[0]
        quote = value[0] if value[0] in "\"'" else ""
        return f"{name}{between}{quote}{self._secret()}{quote}"

    def _alias(self, kind: str, value: str) -> str:
        known = self._known.setdefault(kind, {})
        self.counts[kind] += 1
        return known.setdefault(value, f"{kind}-{len(known) + 1}")

    def _user(self, name: str) -> str:
        if name == "root" or name in self._known.get("user", {}).values():
            return name
        return self._alias("user", name)

    def _ip(self, found: re.Match[str]) -> str:
        address = _address(found[0])
        if address is None or address.is_loopback or address.is_unspecified:
            return found[0]
        return self._alias("ip", str(address))


def _is_secret(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _NO_SECRET.fullmatch(name)


def _words(names: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern of names as whole words, the longest first; None for none."""
    chosen = sorted({name for name in names if len(name) >= _SHORTEST_NAME}, key=len, reverse=True)
    if not chosen:
        return None
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, chosen))})(?![\w-])")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
