"""Limits of logins and kernel settings, each with its reason, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyswiftops.errors import BadInputError
from pyswiftops.specs.document import validate
from pyswiftops.specs.hosts import HostTuning

LIMITS_FILE = "/etc/security/limits.d/90-swiftops.conf"
SYSCTL_FILE = "/etc/sysctl.d/90-swiftops.conf"
# pam_limits refuses a login that it cannot set the limits for; so each is set here first, for the
# length of one program. Words: the file. Exit code 1: a login with it would be refused.
_TRY = """
import resource, sys
for line in open(sys.argv[1]):
    words = line.split()
    if line[:1] == "#" or len(words) < 4:
        continue
    kind = getattr(resource, "RLIMIT_" + words[2].upper())
    scale = 1 if words[2] in ("nofile", "nproc") else 1024
    most = resource.RLIM_INFINITY if words[3] == "unlimited" else int(words[3]) * scale
    try:
        resource.setrlimit(kind, (most, most))
    except (OSError, ValueError) as problem:
        print(words[2], words[3] + ":", problem, "(nobody could log in any more); now:",
              *resource.getrlimit(kind))
        sys.exit(1)
"""
_ULIMIT = {"memlock": "-l", "nofile": "-n", "nproc": "-u", "stack": "-s", "core": "-c"}


def tuning_part(
    settings: Mapping[str, Any],
    recommended: Mapping[str, Mapping[str, Mapping[str, Any]]],
    folder: str = "/etc/swiftops",
) -> dict[str, list[dict[str, Any]]]:
    """Limits and kernel settings of a machine, as the module ``converge`` takes them.

    Args:
        settings: The keys of the fleet file's ``host_tuning``; empty brings back what was before.
        recommended: ``limits`` and ``sysctl`` of the role: name -> ``value`` and ``reason``.
        folder: Where our files on the machine lie.
    """
    limits, sysctl = _wanted(settings, recommended)
    path = {"id": "host_tuning.limits", "path": LIMITS_FILE}
    file = {"type": "file", "content": limits_conf(limits), "mode": "0644"}
    tried = {"validate": ["python3", "-I", "-S", "-c", _TRY, "%s"], "if_folder": True}
    kernel = {
        "id": "host_tuning.sysctl",
        "type": "sysctl",
        "path": SYSCTL_FILE,
        "values": sysctl,
        "before": f"{folder}/sysctl.before",
    }
    below = {"id": "host_tuning.folder", "type": "directory", "path": folder, "only_new": True}
    drop_in = {**below, "id": "host_tuning.drop_ins", "path": "/etc/sysctl.d"}
    return {
        "resources": [
            *([below, drop_in] if sysctl else []),
            {**path, **file, **tried} if limits else {**path, "type": "absent"},
            kernel,
        ]
    }


def tuning_limits(
    settings: Mapping[str, Any], recommended: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """What a fresh login must be given, as checks of the module ``converge``."""
    limits, _ = _wanted(settings, recommended)
    return [
        {
            "id": f"host_tuning.login.{name}",
            "argv": ["sh" if name != "nproc" else "bash", "-c", f"ulimit {_ULIMIT[name]}"],
            "output": [str(value)],
            "remedy": "let logins be limited by PAM (UsePAM yes in sshd_config, pam_limits in "
            f"/etc/pam.d), and look for another file in /etc/security/limits.d that sets {name}",
        }
        for name, value in limits.items()
    ]


def tuning_changed(variables: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> bool:
    """Whether limits of a node changed, so that a fresh login is to be asked."""
    done = [variables[name].get("settings_done", {}) for name in names]
    items = [item for one in done for item in one.get("resources", [])]
    return any(item["id"] == "host_tuning.limits" and item["changed"] for item in items)


def limits_conf(limits: Mapping[str, int | str]) -> str:
    """A file of pam_limits; root is named, as ``*`` does not stand for it."""
    lines = [f"{who} - {name} {value}" for name, value in limits.items() for who in ("*", "root")]
    return "# Made by pyswiftops; changes are lost.\n" + "".join(f"{line}\n" for line in lines)


def _wanted(
    settings: Mapping[str, Any], recommended: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> tuple[dict[str, int | str], dict[str, int | str]]:
    """Limits and kernel settings; what is named goes before what is recommended."""
    if not settings:
        return {}, {}
    tuning = validate(HostTuning, settings, "host_tuning", BadInputError)
    usual: dict[str, dict[str, int | str]] = {"limits": {}, "sysctl": {}}
    if tuning.recommended:
        usual = {
            kind: {name: item["value"] for name, item in recommended[kind].items()}
            for kind in usual
        }
    return {**usual["limits"], **tuning.limits}, {**usual["sysctl"], **tuning.sysctl}
