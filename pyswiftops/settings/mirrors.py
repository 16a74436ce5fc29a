"""Mirrors of pip, apt and git; what names a login goes to files of their own, in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from pyswiftops.errors import BadInputError, Finding

_APT_LINE = re.compile(r"deb(-src)?( \[[^\]]*\])? (\S+) .+")
_HEAD = "# Made by pyswiftops; changes are lost.\n"


def _url(url: str, where: str) -> str:
    """A URL without a login, which this refuses."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        shown = parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]).geturl()
        raise BadInputError(
            Finding(
                "a URL without login and password",
                shown,
                where,
                "give them in pip_mirror_credentials (host, login, password), out of a vault",
            )
        )
    if not parts.scheme or not url.isprintable() or any(char in url for char in " \"'"):
        raise BadInputError(Finding("a URL", repr(url), where, "correct it"))
    return url


def pip_conf(index: str | None, extra: Sequence[str], trusted: Sequence[str]) -> str:
    """A pip.conf; empty where nothing is asked for."""
    lines = [f"index-url = {_url(index, 'pip_mirror_index_url')}"] if index else []
    where = "pip_mirror_extra_index_urls"
    lines += [f"extra-index-url ={_column(_url(url, where) for url in extra)}"] if extra else []
    lines += [f"trusted-host ={_column(trusted)}"] if trusted else []
    return "\n".join([f"{_HEAD}[global]", *lines]) + "\n" if lines else ""


def _column(values: Iterable[str]) -> str:
    return "".join(f"\n    {value}" for value in values)


def apt_sources(lines: Sequence[str]) -> str:
    """A sources.list."""
    for line in lines:
        found = _APT_LINE.fullmatch(line)
        if not found:
            where, remedy = "pip_mirror_apt_sources", "as: deb http://mirror/debian bookworm main"
            raise BadInputError(Finding("a line of sources.list", repr(line), where, remedy))
        _url(found.group(3), "pip_mirror_apt_sources")
    return _HEAD + "".join(f"{line}\n" for line in lines)


def apt_conf(sources: str | None, credentials: str | None) -> str:
    """Apt's settings that put our sources in the place of the distribution's."""
    lines = [f'Dir::Etc::sourcelist "{sources}";', 'Dir::Etc::sourceparts "-";'] if sources else []
    lines += [f'Dir::Etc::netrc "{credentials}";'] if credentials else []
    return "".join(f"{line}\n" for line in ["// Made by pyswiftops; changes are lost.", *lines])


def git_config(mirrors: Mapping[str, str], credentials: str | None) -> str:
    """A gitconfig: a URL's beginning to what stands in its place."""
    text = _HEAD
    for begin, mirror in mirrors.items():
        for url in (begin, mirror):
            _url(url, "pip_mirror_git")
        text += f'[url "{mirror}"]\n\tinsteadOf = {begin}\n'
    if credentials:
        text += f'[credential]\n\thelper = "store --file={credentials}"\n'
    return text


def netrc(credentials: Sequence[Mapping[str, Any]]) -> str:
    """Logins as pip and apt read them."""
    return "".join(
        f"machine {item['host']} login {item['login']} password {item['password']}\n"
        for item in _plain(credentials)
    )


def git_credentials(credentials: Sequence[Mapping[str, Any]]) -> str:
    """Logins as ``git credential-store`` reads them."""
    return "".join(
        f"https://{quote(item['login'], safe='')}:{quote(item['password'], safe='')}"
        f"@{item['host']}\n"
        for item in _plain(credentials)
    )


def _plain(credentials: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    found = [{key: str(item[key]) for key in ("host", "login", "password")} for item in credentials]
    for item in found:
        if any(not text.isprintable() or " " in text or not text for text in item.values()):
            raise BadInputError(
                Finding(
                    "host, login and password without blanks",
                    "one with a blank, or an empty one",
                    f"pip_mirror_credentials: {item['host']!r}",
                    "make a token without blanks",
                )
            )
    return found
