"""What nodes get so that shells, apt, pip and git find a proxy, and go past it in the fleet."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any
from urllib.parse import quote, urlsplit

from pyswiftops.content import collection
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.specs.document import validate
from pyswiftops.specs.hosts import Proxy

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROFILE = "/etc/profile.d/swiftops-proxy.sh"
BASHRC, ZSHRC = "/etc/bash.bashrc", "/etc/zsh/zshrc"
APT = "/etc/apt/apt.conf.d/98swiftops-proxy"
# Not /etc/pip.conf, which is the role pip_mirror's or the administrator's; pip reads both.
PIP = ("/etc/xdg", "/etc/xdg/pip", "/etc/xdg/pip/pip.conf")
GITCONFIG = "/etc/gitconfig"
_HEAD = "# Made by pyswiftops; changes are lost.\n"


def proxy_part(
    settings: Mapping[str, Any],
    login: Mapping[str, str] | None = None,
    *,
    indexes: Iterable[str] = (),
    folder: str = "/etc/swiftops",
    memory: str = "/dev/shm/swiftops",  # noqa: S108 a file system in memory is meant
) -> dict[str, list[dict[str, Any]]]:
    """The files of a node, as the module ``converge`` takes them.

    Args:
        settings: The keys of the fleet file's ``proxy``; empty takes away what was written.
        login: ``login`` and ``password`` for the proxy, where it wants them.
        indexes: URLs of pip's indexes.
        folder: Where our files on the node lie.
        memory: Where the login lies; a file system in memory.

    Raises:
        BadInputError: the settings are not fit, or do not go together.
    """
    if not settings:
        return {"resources": _gone(folder, memory)}
    proxy = validate(Proxy, settings, "proxy", BadInputError)
    files: dict[str, str | None] = {
        f"{folder}/proxytest.py": _proxytest(),
        f"{folder}/proxy.sh": proxy_functions(proxy, folder, _login_file(login, memory)),
        PROFILE: f"{_HEAD}{_source(folder)}\n",
        APT: apt_proxy(proxy) if proxy.apt else None,
        PIP[-1]: pip_proxy(proxy, list(indexes)) or None if proxy.pip else None,
        f"{folder}/gitconfig-proxy": git_proxy(proxy, login, memory) if proxy.git else None,
    }
    _logins_are_read(proxy, login)
    secret = _login_resources(proxy, login, memory)
    folders = [*PIP[:-1]] if files[PIP[-1]] else []
    made = [
        _resource(path, "directory", mode="0755", only_new=True) for path in (folder, *folders)
    ] + [
        _resource(path, "absent")
        if text is None
        else _resource(path, "file", content=text, mode="0644")
        for path, text in files.items()
    ]
    return {"resources": [*made, *secret, *_loaded(folder, git=proxy.git)]}


def proxy_environment(
    settings: Mapping[str, Any], login: Mapping[str, str] | None
) -> dict[str, str]:
    """Variables of every session: what goes past the proxy, and the proxy where that is asked for.

    A login would lie on a disk here, so that with one the proxy is left to ``proxyon``.
    """
    if not settings:
        return {}
    proxy = validate(Proxy, settings, "proxy", BadInputError)
    pairs = {"no_proxy": ",".join(no_proxy(proxy))}
    if proxy.sessions and not login:
        pairs |= {"http_proxy": proxy.http, "https_proxy": proxy.https or proxy.http}
    return {**pairs, **{name.upper(): value for name, value in pairs.items()}}


def no_proxy(proxy: Proxy) -> list[str]:
    """What goes past the proxy: this machine, the fleet, and what was asked for."""
    return list(dict.fromkeys([*LOOPBACK, *proxy.no_proxy]))


def proxy_functions(proxy: Proxy, folder: str, login: str = "") -> str:
    """The functions ``proxyon``, ``unproxy`` and ``proxytest``, for bash and zsh.

    Args:
        proxy: The settings.
        folder: Where ``proxytest.py`` lies.
        login: The file that holds the proxy's login, where it wants one.
    """
    ways = {"http_proxy": proxy.http, "https_proxy": proxy.https or proxy.http}
    given = [f'    export {name}="{_with_login(url, login)}"' for name, url in ways.items()]
    read = []
    if login:
        none = Finding(
            "the login of the proxy", "none that you may read", login, "run the settings again"
        )
        read = [
            "    local login",
            f"    if ! read -r login 2> /dev/null < {shlex.quote(login)}; then",
            f"        echo {shlex.quote(str(none))} >&2",
            "        return 1",
            "    fi",
        ]
    shown = " ".join(dict.fromkeys(ways.values()))
    program = shlex.quote(f"{folder}/proxytest.py")
    lines = [
        "# proxyon, unproxy, proxytest [URL]: functions of bash and zsh",
        f"export no_proxy={shlex.quote(','.join(no_proxy(proxy)))}",
        'export NO_PROXY="$no_proxy"',
        "proxyon() {",
        *read,
        *given,
        '    export HTTP_PROXY="$http_proxy" HTTPS_PROXY="$https_proxy"',
        f'    echo "proxy on: {shown}"',
        "}",
        "unproxy() {",
        "    unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY",
        '    echo "proxy off"',
        "}",
        "proxytest() {",
        f'    (proxyon > /dev/null && python3 {program} "${{1:-{proxy.test}}}")',
        "}",
        *(["proxyon > /dev/null"] if proxy.sessions else []),
    ]
    return _HEAD + "".join(f"{line}\n" for line in lines)


def apt_proxy(proxy: Proxy) -> str:
    """Apt's settings; it knows hosts that go past a proxy, and no networks or domains."""
    lines = [
        f'Acquire::http::Proxy "{proxy.http}";',
        f'Acquire::https::Proxy "{proxy.https or proxy.http}";',
        *(
            f'Acquire::{scheme}::Proxy::{host} "DIRECT";'
            for host in _hosts(proxy)
            if ":" not in host  # apt takes a colon for the next name
            for scheme in ("http", "https")
        ),
    ]
    return "".join(f"{line}\n" for line in ["// Made by pyswiftops; changes are lost.", *lines])


def pip_proxy(proxy: Proxy, indexes: Sequence[str]) -> str:
    """A pip.conf; empty where all of pip's indexes lie past the proxy.

    Raises:
        BadInputError: only some do: with a proxy in its settings, pip reads no ``no_proxy``.
    """
    near = [url for url in indexes if is_past(proxy, urlsplit(url).hostname or "")]
    if near and len(near) == len(indexes):
        return ""
    if near:
        raise BadInputError(
            Finding(
                "indexes of pip that all lie behind the proxy, or none: pip has one way for all",
                f"{', '.join(near)} past it, and others behind it",
                "pip_mirror_index_url, pip_mirror_extra_index_urls, proxy.no_proxy",
                "proxy: {pip: false, sessions: true}, as pip reads no_proxy out of its environment",
            )
        )
    return f"{_HEAD}[global]\nproxy = {proxy.https or proxy.http}\n"


def git_proxy(proxy: Proxy, login: Mapping[str, str] | None, memory: str) -> str:
    """A gitconfig; git also reads ``no_proxy``, which knows ports and networks."""
    url = proxy.https or proxy.http
    if login:
        url = url.replace("://", f"://{quote(login['login'], safe='')}@", 1)
    text = f"{_HEAD}[http]\n\tproxy = {url}\n"
    for host in _hosts(proxy):
        named = f"[{host}]" if ":" in host else host
        for scheme in ("http", "https"):
            text += f'[http "{scheme}://{named}/"]\n\tproxy =\n'
    if login:
        text += f'[credential]\n\thelper = "store --file={memory}/git-proxy"\n'
    return text


def is_past(proxy: Proxy, host: str) -> bool:
    """Whether a host goes past the proxy."""
    for entry in no_proxy(proxy):
        if host == entry or fnmatch(host, entry) or host.endswith("." + entry.lstrip(".")):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def _hosts(proxy: Proxy) -> list[str]:
    """Entries that name one host each."""
    return [entry for entry in no_proxy(proxy) if not set(entry) & set("/*") and entry[0] != "."]


def _with_login(url: str, login: str) -> str:
    return url.replace("://", "://${login}@", 1) if login else url


def _login_file(login: Mapping[str, str] | None, memory: str) -> str:
    return f"{memory}/proxy" if login else ""


def _logins_are_read(proxy: Proxy, login: Mapping[str, str] | None) -> None:
    """Refuse a login for what would want it in a file on a disk."""
    asked = [name for name in ("apt", "pip") if getattr(proxy, name)]
    if login and asked:
        off = ", ".join(f"{name}: false" for name in asked)
        raise BadInputError(
            Finding(
                "a proxy without a login for apt and pip, whose settings would hold it on the disk",
                "proxy_login",
                f"proxy: {', '.join(asked)}",
                f"proxy: {{{off}}}, and proxyon before either, which both heed",
            )
        )


def _login_resources(
    proxy: Proxy, login: Mapping[str, str] | None, memory: str
) -> list[dict[str, Any]]:
    places = (f"{memory}/proxy", f"{memory}/git-proxy")
    if not login:
        return [_resource(path, "absent") for path in places]
    if set(login) != {"login", "password"} or not all(map(str, login.values())):
        raise BadInputError(
            Finding(
                "login and password", ", ".join(login), "proxy_login", "give both, out of a vault"
            )
        )
    pair = ":".join(quote(str(login[key]), safe="") for key in ("login", "password"))
    secret = {"mode": "0600", "sensitive": True, "memory_only": True}
    stored = (proxy.https or proxy.http).replace("://", f"://{pair}@", 1)
    return [
        _resource(memory, "directory", mode="0700"),
        _resource(places[0], "file", content=f"{pair}\n", **secret),
        _resource(places[1], "file", content=f"{stored}\n", **secret),
    ]


def _loaded(folder: str, *, git: bool) -> list[dict[str, Any]]:
    """Lines of ours in files of others."""
    line, include = _source(folder), f"[include] path = {folder}/gitconfig-proxy"
    return [
        *(
            _resource(path, "lines", lines=[line], only_new=True, if_folder=True)
            for path in (BASHRC, ZSHRC)
        ),
        _resource(GITCONFIG, "lines" if git else "no_lines", lines=[include], only_new=True),
    ]


def _gone(folder: str, memory: str) -> list[dict[str, Any]]:
    files = [f"{folder}/{name}" for name in ("proxy.sh", "proxytest.py", "gitconfig-proxy")]
    files += [PROFILE, APT, PIP[-1], f"{memory}/proxy", f"{memory}/git-proxy"]
    lines = [(BASHRC, _source(folder)), (ZSHRC, _source(folder))]
    lines += [(GITCONFIG, f"[include] path = {folder}/gitconfig-proxy")]
    return [_resource(path, "absent") for path in files] + [
        _resource(path, "no_lines", lines=[line]) for path, line in lines
    ]


def _source(folder: str) -> str:
    path = shlex.quote(f"{folder}/proxy.sh")
    return f"[ -r {path} ] && . {path}"


def _proxytest() -> str:
    path = collection() / "plugins" / "module_utils" / "proxytest.py"
    return path.read_text(encoding="utf-8")


def _resource(path: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"proxy.{path}", "type": kind, "path": path, **more}
