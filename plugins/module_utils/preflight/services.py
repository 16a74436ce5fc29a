# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What works on a machine by itself: upgrades, the fabric manager, the container engine.

Linux only, standard library only, Python 3.9 or newer. Files are read; no service is asked.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

SECONDS = 20
_SETTING = re.compile(r"^\s*(APT::Periodic::[\w-]+)\s+\"?(\w+)\"?\s*;", re.MULTILINE)
_VERSION = re.compile(r"(\d+\.\d+(?:\.\d+)?)")


def look(etc: str = "/etc") -> dict[str, Any]:
    """Return what is switched on."""
    folder = Path(etc)
    return {
        "unattended_upgrades": unattended_upgrades(folder / "apt"),
        "fabric_manager": fabric_manager(),
        "engine": engine(folder),
    }


def unattended_upgrades(apt: Path) -> dict[str, Any]:
    """Return whether apt upgrades packages by itself, and what it is told to leave alone."""
    settings: dict[str, str] = {}
    told = ""
    for path in sorted((apt / "apt.conf.d").glob("*")):
        text = _text(path)
        settings.update(parse_periodic(text))
        told += text
    installed = shutil.which("unattended-upgrade") is not None
    period = settings.get("APT::Periodic::Unattended-Upgrade", "0")
    enabled = settings.get("APT::Periodic::Enable", "1")
    return {
        "installed": installed,
        "on": installed and period not in ("0", "") and enabled != "0",
        "leaves_nvidia": leaves_nvidia(told),
    }


def parse_periodic(text: str) -> dict[str, str]:
    """Read the settings APT::Periodic of an apt configuration."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("//", "#"))]
    return dict(_SETTING.findall("\n".join(lines)))


def leaves_nvidia(text: str) -> bool:
    """Tell whether Package-Blacklist names the driver's packages."""
    blocks = re.findall(r"Unattended-Upgrade::Package-Blacklist\s*\{(.*?)\}", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return any("nvidia" in line for line in lines if not line.startswith(("//", "#")))


def fabric_manager() -> dict[str, str]:
    """Return the fabric manager's version; empty where there is none."""
    program = shutil.which("nv-fabricmanager")
    if program is None:
        return {"version": ""}
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return {"version": "", "error": str(problem)}
    return {"version": parse_version(done.stdout + done.stderr)}


def parse_version(text: str) -> str:
    """Return the first version in a text."""
    found = _VERSION.search(text)
    return found[1] if found else ""


def engine(etc: Path) -> dict[str, Any]:
    """Return what of the container engine's settings bears on GPUs."""
    text = _text(etc / "docker" / "daemon.json")
    try:
        settings = json.loads(text) if text.strip() else {}
    except ValueError as problem:
        return {"docker": True, "error": f"daemon.json: {problem}"}
    options = [str(option) for option in settings.get("exec-opts") or []]
    driver = [option.partition("=")[2] for option in options if "cgroupdriver" in option]
    config = _text(etc / "nvidia-container-runtime" / "config.toml")
    return {
        "docker": shutil.which("dockerd") is not None or bool(text),
        "error": "",
        "cgroup_driver": driver[-1] if driver else "",
        "nvidia_runtime": "nvidia" in (settings.get("runtimes") or {}) or bool(config),
        "cdi": bool((settings.get("features") or {}).get("cdi")) or 'mode = "cdi"' in config,
        "no_cgroups": bool(re.search(r"^\s*no-cgroups\s*=\s*true", config, re.MULTILINE)),
        "char_links": any(Path("/dev/char").glob("195:*")),
        "cgroup_version": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "systemd": Path("/run/systemd/system").exists(),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
