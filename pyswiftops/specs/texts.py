"""Kinds of text in a spec: what may become a word of a command, a path, an address, a run id."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?")
_LIKE_IPV4 = re.compile(r"[0-9.]+")
_HOST_AND_PORT = re.compile(r"[^:]+:[0-9]+")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}")
_USER = re.compile(r"[A-Za-z0-9_][^\s\"'`$;&|<>()]*")
_JUMP = re.compile(
    r"([^\s@,\"'-][^\s@,\"']*@)?(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(:[0-9]{1,5})?"
)


def _text(value: str) -> str:
    if not value.strip() or value != value.strip():
        raise ValueError("a text that is not empty, without blanks around it")
    if "\n" in value or "\r" in value or "\t" in value:
        raise ValueError("a text of one line")
    return value


def _word(value: str) -> str:
    if _text(value).startswith("-"):
        raise ValueError("a text that does not begin with a dash, as commands take that for a flag")
    return value


def _address(value: str) -> str:
    if _HOST_AND_PORT.fullmatch(value):
        raise ValueError("a host name or an IP address alone; the port has a key of its own")
    if value.startswith("["):
        raise ValueError("an IPv6 address without brackets")
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if _LIKE_IPV4.fullmatch(value) or not _HOST.fullmatch(value):
            raise ValueError("a host name or an IP address") from None
    return value


def _interface(value: str) -> str:
    if not _INTERFACE.fullmatch(value):
        raise ValueError("the name of a network interface, for instance eth1")
    return value


def _user(value: str) -> str:
    if not _USER.fullmatch(value):
        raise ValueError("a login name")
    return value


def _jump(value: str) -> str:
    hops = [_JUMP.fullmatch(hop) for hop in value.split(",")]
    if not all(hop and int((hop[3] or ":22")[1:]) <= 65535 for hop in hops):  # noqa: PLR2004 TCP's range
        raise ValueError("user@host[:port], several of them with commas between")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("a network as CIDR, for instance 10.9.0.0/24") from None
    return value


Text = Annotated[str, AfterValidator(_text)]
"""One line that is not empty, for instance a path."""
Word = Annotated[str, AfterValidator(_word)]
"""A text that becomes a word of a command."""
Address = Annotated[str, AfterValidator(_address)]
"""A host name or an IP address."""
Interface = Annotated[str, AfterValidator(_interface)]
"""A network interface."""
User = Annotated[str, AfterValidator(_user)]
"""A login name."""
Jump = Annotated[str, AfterValidator(_jump)]
"""Hosts that ssh jumps over."""
Network = Annotated[str, AfterValidator(_network)]
"""A network as CIDR."""
