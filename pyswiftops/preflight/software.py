"""Packages, and what works on a machine by itself."""

from __future__ import annotations

from collections.abc import Iterator

from pyswiftops.installed import conflicts
from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Fix, Fleetwide, Found, Severity
from pyswiftops.preflight.gpus import differing
from pyswiftops.specs.preflight import Check


def packages(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Imports take the files of the release line's versions, and the same on all nodes."""
    versions: dict[str, dict[str, str]] = {}
    for name, told in facts.items():
        item = told.get("packages")
        if not item:
            continue
        if "error" in item:
            remedy = "look at python: of the fleet file; swiftops matrix --check"
            yield Found(
                Check.PACKAGES, Severity.BLOCK, name, "a Python that starts", item["error"], remedy
            )
            continue
        versions.setdefault("Python", {})[name] = str(item.get("python") or "")
        for package, has in item["packages"].items():
            versions.setdefault(package, {})[name] = str(has["version"] or "")
        for finding in conflicts(asked.row, name, item) if asked.row else ():
            yield Found(
                Check.PACKAGES,
                Severity.BLOCK,
                name,
                finding.expected,
                finding.found,
                _remedy(finding.found, asked),
            )
    for package, having in versions.items():
        severity = Severity.WARN if package == "Python" else Severity.BLOCK
        remedy = "ansible-playbook pyswiftops.fleet.install -i fleet.yml"
        yield from differing(Check.PACKAGES, f"version of {package}", having, severity, remedy)


def _remedy(found: str, asked: Asked) -> str:
    if "shadows" in found:
        return (
            "take that folder off PYTHONPATH, or remove it: python -c 'import sys; print(sys.path)'"
        )
    if asked.one_machine:
        return "pip install 'pyswiftops[local]' in the Python of the fleet file"
    return "ansible-playbook pyswiftops.fleet.install -i fleet.yml"


def upgrades(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Nothing replaces the driver below a run."""
    for name, told in facts.items():
        item = (told.get("services") or {}).get("unattended_upgrades") or {}
        if not item.get("on"):
            continue
        risky = asked.device == "gpu" and not item.get("leaves_nvidia")
        yield Found(
            Check.UPGRADES,
            Severity.WARN if risky else Severity.NOTE,
            name,
            "packages that stay as they are while a run is on",
            "unattended-upgrades is on" + (", and may replace the driver" if risky else ""),
            "swiftops preflight --fix --only upgrades, or apt-mark hold 'nvidia-*' 'libnvidia-*'",
            Fix.HOLD_UPGRADES,
        )


def engine(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """The fabric manager fits the driver; a reload of systemd takes no container's GPUs."""
    if asked.device != "gpu":
        return
    for name, told in facts.items():
        services, gpus = told.get("services") or {}, told.get("gpus") or {}
        manager = str((services.get("fabric_manager") or {}).get("version") or "")
        drivers = {str(gpu["driver"]) for gpu in gpus.get("gpus") or ()}
        drivers |= set(gpus.get("drivers") or ())  # of a host below containers
        if manager and drivers and manager not in drivers:
            yield Found(
                Check.ENGINE,
                Severity.BLOCK,
                name,
                f"a fabric manager of the driver's version, {', '.join(sorted(drivers))}",
                manager,
                f"apt-get install nvidia-fabricmanager-{min(drivers).partition('.')[0]}="
                f"{min(drivers)}-1, then systemctl restart nvidia-fabricmanager",
            )
        item = services.get("engine") or {}
        if item.get("error"):
            remedy = "python3 -m json.tool /etc/docker/daemon.json"
            yield Found(
                Check.ENGINE,
                Severity.WARN,
                name,
                "a daemon.json that can be read",
                item["error"],
                remedy,
            )
        elif _loses_gpus(item):
            yield Found(
                Check.ENGINE,
                Severity.WARN,
                name,
                "containers that keep their GPUs when systemd reloads",
                "NVIDIA's runtime with the cgroup driver systemd, without CDI and /dev/char links",
                "nvidia-ctk system create-dev-char-symlinks --create-all, or use CDI, or "
                "exec-opts native.cgroupdriver=cgroupfs in daemon.json",
            )
        if item.get("no_cgroups"):
            remedy = "set no-cgroups = false in /etc/nvidia-container-runtime/config.toml"
            yield Found(
                Check.ENGINE,
                Severity.WARN,
                name,
                "NVIDIA's runtime that gives containers their GPUs",
                "no-cgroups = true: right for rootless engines alone",
                remedy,
            )


def _loses_gpus(item: dict[str, object]) -> bool:
    """As nvidia-container-toolkit#48 tells: devices that systemd does not know are taken away."""
    if not item.get("nvidia_runtime") or item.get("cdi") or item.get("char_links"):
        return False
    default = "systemd" if item.get("systemd") and item.get("cgroup_version") == 2 else "cgroupfs"  # noqa: PLR2004 of cgroups
    return (item.get("cgroup_driver") or default) == "systemd"
