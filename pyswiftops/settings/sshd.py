"""sshd's configuration, and what sshd must say of it, from the role's variables."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyswiftops.errors import BadInputError, Finding

# What ssh-audit calls a failure, and what has a better kind, is taken away; so a later sshd's
# better algorithms stay. Source: ssh-audit 3, sshd_config(5).
ALGORITHMS = (
    "HostKeyAlgorithms ssh-ed25519",
    "KexAlgorithms -diffie-hellman-*,ecdh-sha2-*",
    "Ciphers -3des-cbc,aes*-cbc,arcfour*,blowfish-cbc,cast128-cbc,rijndael-cbc*",
    "MACs -hmac-md5*,hmac-ripemd160*,hmac-sha1*,umac-*,hmac-sha2-256,hmac-sha2-512",
)
ENVIRONMENT = "environment.json"  # in the fleet's folder on the controller
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = ("HOME", "HOSTNAME", "LOGNAME", "MAIL", "SHELL", "TERM", "USER")  # a session has its own
_CRYPTED = re.compile(r"\$[a-z0-9]+\$[^:\s]+")


def _refuse(expected: str, found: str, where: str, remedy: str) -> BadInputError:
    return BadInputError(Finding(expected, found, where, remedy))


def sshd_part(settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The sshd of a node, as the module ``converge`` takes it.

    Args:
        settings: As of `sshd_config`, ``binary``, and ``port_before``, where it is reached now.

    Raises:
        BadInputError: a setting is not fit.
    """
    folder, binary = settings["folder"], settings["binary"]
    path, listeners = f"{folder}/sshd_config", sshd_listeners(settings)
    files = [
        {"id": "sshd.folder", "type": "directory", "path": folder, "mode": "0755"},
        {
            "id": "sshd.privilege_separation",
            "type": "directory",
            "path": "/run/sshd",
            "mode": "0755",
        },
        {
            "id": "sshd.config",
            "type": "file",
            "path": path,
            "content": sshd_config(settings),
            "mode": "0600",
            "validate": [binary, "-t", "-f", "%s"],
            "backup": True,
        },
    ]
    reload = {
        "id": "sshd.reload",
        "after": ["sshd.config"],
        "signal": "HUP",
        "program": "sshd",
        "ports": [settings["port"], settings["port_before"]],
        "pidfile": "/run/sshd.pid",
        "remedy": f"start it: {binary} -f {path}",
    }
    effective = {
        "id": "sshd.effective",
        "argv": [binary, "-T", "-f", path],
        "output": sshd_effective(settings),
        "remedy": f"look for an Include or a Match that says otherwise in {path}",
    }
    return {
        "needs": listeners,
        "resources": [*files, *sshd_passwords(settings)],
        "reactions": [reload],
        "checks": [effective, *listeners],
    }


def sshd_config(settings: Mapping[str, Any]) -> str:
    """The file.

    Args:
        settings: ``port``, ``listen`` (addresses; none is all), ``folder`` (of host key and
            authorized keys), ``passwords`` (login to crypted password), ``password_login``,
            ``pam``, ``environment``.
    """
    folder, words = settings["folder"], _words(settings)
    passwords = "yes" if words["password"] else "no"
    lines = [
        "# Made by pyswiftops; changes are lost. The file before is kept beside it.",
        f"Port {settings['port']}",
        *(f"ListenAddress {address}" for address in settings["listen"]),
        f"HostKey {folder}/ssh_host_ed25519_key",
        *ALGORITHMS,
        f"AuthorizedKeysFile .ssh/authorized_keys {folder}/authorized_keys",
        f"PermitRootLogin {words['root']}",
        "PubkeyAuthentication yes",
        f"PasswordAuthentication {passwords}",
        "KbdInteractiveAuthentication no",
        "PermitEmptyPasswords no",
        f"UsePAM {'yes' if settings['pam'] else 'no'}",
        "X11Forwarding no",
        "PrintMotd no",
        "AcceptEnv LANG LC_*",
        "ClientAliveInterval 30",
        "MaxSessions 100",
        "MaxStartups 300",  # all pairs of a fleet log in at once
        "Subsystem sftp internal-sftp",
    ]
    environment = session_environment(settings["environment"])
    # one line: sshd takes the first SetEnv only
    sets = " ".join(f'{name}="{_escaped(value)}"' for name, value in environment.items())
    return "\n".join([*lines, *([f"SetEnv {sets}"] if sets else [])]) + "\n"


def sshd_effective(settings: Mapping[str, Any]) -> list[str | list[str]]:
    """Lines that ``sshd -T`` must print; a list stands for any of its lines."""
    words = _words(settings)
    root = [f"permitrootlogin {words['root']}", "permitrootlogin without-password"]
    found: list[str | list[str]] = [
        f"port {settings['port']}",
        *(f"listenaddress {_at(address, settings['port'])}" for address in settings["listen"]),
        root if words["root"] != "yes" else root[0],
        "pubkeyauthentication yes",
        f"passwordauthentication {'yes' if words['password'] else 'no'}",
        "kbdinteractiveauthentication no",
        "permitemptypasswords no",
        f"hostkey {settings['folder']}/ssh_host_ed25519_key",
        "hostkeyalgorithms ssh-ed25519",
    ]
    environment = session_environment(settings["environment"])
    return [*found, *(f"setenv {name}={value}" for name, value in environment.items())]


def sshd_listeners(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the module converge is to find a listener, and to look first whether one may be."""
    return [
        {
            "id": f"sshd.listens.{address}",
            "address": address,
            "port": settings["port"],
            "program": "sshd",
            "remedy": "give an address of the node in sshd_listen_addresses and a free port in "
            "sshd_port; ss -lntp on the node tells who listens",
        }
        for address in settings["listen"] or ["0.0.0.0"]  # noqa: S104 compared, not bound
    ]


def sshd_passwords(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Resources of the module converge: crypted passwords, where logins by password are taken."""
    return [
        {
            "id": f"sshd.password.{login}",
            "type": "password",
            "owner": login,
            "content": str(crypted),
            "sensitive": True,
        }
        for login, crypted in settings["passwords"].items()
        if settings["password_login"]
    ]


def kept_environment(environment: Mapping[str, Any], state: str) -> dict[str, Any]:
    """Variables of the image; as the fleet's folder keeps them where they are not known now."""
    kept = Path(state).expanduser() / ENVIRONMENT
    if environment or not state or not kept.exists():
        return dict(environment)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def session_environment(environment: Mapping[str, Any]) -> dict[str, str]:
    """Variables that a session gets, in the order of their names."""
    kept = {str(name): str(value) for name, value in sorted(environment.items())}
    for name, value in kept.items():
        if not _NAME.fullmatch(name):
            raise _refuse(
                "names of variables: letters, digits, _",
                repr(name),
                "sshd_environment",
                "rename it",
            )
        if not value.isprintable():
            raise _refuse(
                "a value on one line", repr(value), f"sshd_environment: {name}", "leave it out"
            )
    return {name: value for name, value in kept.items() if name not in _OWN}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What passwords and addresses come to, once they are found to be fit."""
    for address in settings["listen"]:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise _refuse(
                "an IP address", repr(address), "sshd_listen_addresses", "give the node's address"
            ) from None
    passwords = settings["passwords"]
    for login, crypted in passwords.items():
        if not _CRYPTED.fullmatch(str(crypted)):
            raise _refuse(
                "a crypted password ($6$...)",
                "another text",
                f"sshd_passwords: {login}",
                "make it with: openssl passwd -6, and keep it in a vault",
            )
    if settings["password_login"] and not passwords:
        raise _refuse(
            "a crypted password for sshd_password_login",
            "none",
            "sshd_passwords",
            "give sshd_passwords, or leave sshd_password_login out",
        )
    root = "yes" if settings["password_login"] and "root" in passwords else "prohibit-password"
    return {"password": settings["password_login"], "root": root}
