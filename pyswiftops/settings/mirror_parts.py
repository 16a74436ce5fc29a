"""The files by which a node finds mirrors, as the module ``converge`` takes them.

One filter makes the whole part of the role, so that a node's worker compiles one template and not
one for each file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyswiftops.settings import mirrors

Resource = dict[str, Any]
APT_CONF = "/etc/apt/apt.conf.d/99swiftops"


def mirror_part(settings: Mapping[str, Any]) -> dict[str, list[Resource]]:
    """Mirrors of pip, apt and git, with their logins; what is not asked for goes.

    Args:
        settings: The role's variables without their prefix: ``index_url``, ``extra_index_urls``,
            ``trusted_hosts``, ``apt_sources``, ``git``, ``credentials``, ``memory``, ``folder``.

    Raises:
        BadInputError: a URL with a login in it, or something that is none.
    """
    folder = str(settings["folder"])
    files = [
        {"id": "pip_mirror.folder", "type": "directory", "path": folder, "mode": "0755"},
        *_pip(settings),
        *_apt(settings, folder),
        *_git(settings, folder),
        *_logins(settings),
    ]
    return {"resources": files}


def _pip(settings: Mapping[str, Any]) -> list[Resource]:
    content = mirrors.pip_conf(
        settings["index_url"], settings["extra_index_urls"], settings["trusted_hosts"]
    )
    made = _file("pip_mirror.pip", "/etc/pip.conf", content)
    return [{**made, "backup": True}] if content else []


def _apt(settings: Mapping[str, Any], folder: str) -> list[Resource]:
    lines, logins = settings["apt_sources"], settings["credentials"]
    listed = f"{folder}/apt.list"
    sources, conf = _gone("pip_mirror.apt_sources", listed), _gone("pip_mirror.apt", APT_CONF)
    if lines:
        sources = _file("pip_mirror.apt_sources", listed, mirrors.apt_sources(lines))
    if lines or logins:
        netrc = f"{settings['memory']}/netrc" if logins else ""
        text = mirrors.apt_conf(listed if lines else "", netrc)
        conf = _file("pip_mirror.apt", APT_CONF, text)
    return [sources, conf]


def _git(settings: Mapping[str, Any], folder: str) -> list[Resource]:
    logins = settings["credentials"]
    if not settings["git"] and not logins:
        return []
    path = f"{folder}/gitconfig"
    text = mirrors.git_config(settings["git"], f"{settings['memory']}/git" if logins else "")
    included = {
        "id": "pip_mirror.git_include",
        "type": "lines",
        "path": "/etc/gitconfig",
        "lines": ["[include]", f"\tpath = {path}"],
        "position": "top",
        "mode": "0644",
        "only_new": True,
    }
    return [_file("pip_mirror.git", path, text), included]


def _logins(settings: Mapping[str, Any]) -> list[Resource]:
    logins, memory = settings["credentials"], settings["memory"]
    names = {"pip_mirror.netrc": f"{memory}/netrc", "pip_mirror.git_logins": f"{memory}/git"}
    if not logins:
        return [_gone(name, path) for name, path in names.items()]
    texts = (mirrors.netrc(logins), mirrors.git_credentials(logins))
    hidden = {"mode": "0600", "sensitive": True, "memory_only": True}
    return [
        {"id": "pip_mirror.memory", "type": "directory", "path": memory, "mode": "0700"},
        *(
            {**_file(name, path, text), **hidden}
            for (name, path), text in zip(names.items(), texts, strict=True)
        ),
    ]


def _gone(name: str, path: str) -> Resource:
    return {"id": name, "type": "absent", "path": path}


def _file(name: str, path: str, content: str) -> Resource:
    return {"id": name, "type": "file", "path": path, "content": content, "mode": "0644"}
