"""What a fleet's images and containers are to be, as data. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pyswiftops.errors import Finding, FleetError

FLEET, NODE, USE, DEFINITION = (
    "swiftops.fleet",
    "swiftops.node",
    "swiftops.use",
    "swiftops.definition",
)
SETTINGS = "/etc/swiftops"
SSHD = f"mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f {SETTINGS}/sshd_config"
GREETING = "exec 3<>/dev/tcp/{address}/{port} && read -t 5 -u 3 line && [[ $line == SSH-2.0-* ]]"
_DIGITS = 16
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def engine_settings(engine: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What the engine's ``daemon.json`` has to hold; nothing where nothing is asked for."""
    found: dict[str, Any] = {}
    for name in ("registry_mirrors", "insecure_registries"):
        if engine[name]:
            found[name.replace("_", "-")] = list(engine[name])
    if engine["nvidia"] and device == "gpu":
        found["runtimes"] = {"nvidia": {"path": "nvidia-container-runtime", "args": []}}
    return found


def engine_proxy(proxy: str | None, past: Sequence[str]) -> dict[str, str]:
    """The environment of a daemon behind a proxy, and what goes past it; empty without one."""
    if not proxy:
        return {}
    around = ",".join(["localhost", "127.0.0.1", "::1", *past])
    return {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": around}


def engine_told(environment: Mapping[str, str]) -> str:
    """What ``docker info`` tells of the proxy of a daemon with this environment.

    It masks logins, so that this says nothing of whether a password is the same.
    """
    proxy = urlsplit(environment.get("HTTP_PROXY", ""))
    if "@" in proxy.netloc:
        proxy = proxy._replace(netloc="xxxxx:xxxxx@" + proxy.netloc.rpartition("@")[2])
    return f"{proxy.geturl()} {environment.get('NO_PROXY', '')}".strip()


def image_definition(dockerfile: str, wheelhouse: Mapping[str, Any], base: str) -> str:
    """The sum of all that an image is built from: text, wheels, id of its base. Its tag."""
    return _sum([dockerfile, base, sorted(wheelhouse["files"].items())])


def image_environment(inspected: Mapping[str, Any]) -> dict[str, str]:
    """Variables that an image sets."""
    lines = (inspected.get("Config") or {}).get("Env") or []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def container_name(fleet: str, node: str) -> str:
    """How Docker knows a node."""
    return f"swiftops-{fleet}-{node}"


def containers(
    variables: Mapping[str, Any], image: str, *, limits: bool = True
) -> list[dict[str, Any]]:
    """The containers of a host, as the module ``docker_container`` takes them.

    Args:
        variables: The host's ``swiftops_*`` variables.
        image: The image's id.
        limits: Whether the host's daemon may raise limits. Where it may not, containers without
            GPUs do without: they register no memory with a device.

    Raises:
        FleetError: they cannot be made as the fleet file says.
    """
    settings, nodes = variables["swiftops_container"], variables["swiftops_host_nodes"]
    _check_ports(settings, nodes)
    if not limits and variables["swiftops_device"] == "gpu" and settings["ulimits"]:
        raise FleetError(
            Finding(
                f"a daemon that may set {', '.join(settings['ulimits'])}",
                "one without the capability SYS_RESOURCE",
                "container.ulimits of the fleet file",
                "start dockerd as full root, or set ulimits: []",
            )
        )
    if not limits:
        variables = {**variables, "swiftops_container": {**settings, "ulimits": []}}
    return [_container(variables, node, image) for node in nodes]


def _container(variables: Mapping[str, Any], node: Mapping[str, Any], image: str) -> dict[str, Any]:
    settings, fleet = variables["swiftops_container"], variables["swiftops_fleet_name"]
    name = container_name(fleet, node["name"])
    network, bridged = settings["network"], settings["network"]["mode"] == "bridge"
    labels = {FLEET: fleet, NODE: node["name"]}
    devices = [device if ":" in device else f"{device}:{device}" for device in settings["devices"]]
    greeting = GREETING.format(
        address=node["address"] if bridged else "127.0.0.1", port=node["port"]
    )
    wanted: dict[str, Any] = {
        "name": name,
        "image": image,
        "command": ["sh", "-c", SSHD],
        "init": True,
        "hostname": node["name"],
        "network_mode": network["name"] if bridged else "host",
        "networks": [{"name": network["name"], "ipv4_address": node["address"]}] if bridged else [],
        "mounts": _mounts(settings["mounts"], name, node["root"], labels),
        "shm_size": settings["shm_size"],
        "devices": devices,
        "device_requests": _gpus(settings["gpus"], variables["swiftops_device"], node["gpus"]),
        "ulimits": [_ulimit(text) for text in settings["ulimits"]],
        "capabilities": list(settings["capabilities"]),
        "restart_policy": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "bash", "-c", greeting],
            "interval": "30s",
            "timeout": "10s",
            "start_period": "10s",
            "retries": 3,
        },
    }
    definition = _sum([wanted, labels, network, node["port"]])
    wanted["labels"] = {**labels, DEFINITION: definition}
    etc = next(mount for mount in wanted["mounts"] if mount["target"] == SETTINGS)
    described = [f"volume-label={key}={value}" for key, value in etc["labels"].items()]
    return {
        "node": node["name"],
        "port": node["port"],
        "definition": definition,
        "wanted": wanted,
        "settings": ",".join(
            ["type=volume", f"source={etc['source']}", f"target={SETTINGS}", *described]
        ),
    }


def _mounts(
    folders: Sequence[Mapping[str, Any]], name: str, root: str, labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The host's folders, the volume of settings, and one for the root unless a folder holds it."""
    mounts = [
        {
            "type": "bind",
            "source": folder["path"],
            "target": folder["target"],
            "read_only": folder["read_only"],
        }
        for folder in folders
    ]
    volumes = {"etc": SETTINGS}
    if not any(PurePosixPath(root).is_relative_to(folder["target"]) for folder in folders):
        volumes["data"] = root
    return [
        *mounts,
        *(
            {
                "type": "volume",
                "source": f"{name}-{use}",
                "target": target,
                "labels": {**labels, USE: use},
            }
            for use, target in volumes.items()
        ),
    ]


def _gpus(way: str, device: str, numbers: Sequence[int] | None) -> list[dict[str, Any]]:
    """GPUs of a container; all of the host where the node names none."""
    if device == "cpu" or way == "none":
        return []
    if way == "cdi":
        ids = [f"nvidia.com/gpu={number}" for number in numbers or ("all",)]
        return [{"driver": "cdi", "device_ids": ids}]
    ask: dict[str, Any] = {"driver": "nvidia", "capabilities": [["gpu"]]}
    if numbers:
        return [{**ask, "device_ids": [str(number) for number in numbers]}]
    return [{**ask, "count": -1}]


def _ulimit(text: str) -> str:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    return f"{name}:{soft}:{hard or soft}"


def _check_ports(settings: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> None:
    if settings["network"]["mode"] == "bridge":
        return
    ports = [node["port"] for node in nodes]
    twice = [node for node in nodes if ports.count(node["port"]) > 1]
    if twice:
        names = ", ".join(node["name"] for node in twice)
        raise FleetError(
            Finding(
                "a port of its own for every node of a host, as network: host shares the host's",
                f"port {twice[0]['port']} for {names}",
                "nodes of the fleet file",
                "give each node another ssh port, or use a private network",
            )
        )


def memory_of(size: str) -> int:
    """Bytes of a size in docker's notation."""
    unit = size[-1].lower()
    return int(size[:-1]) * _UNITS[unit] if unit in _UNITS else int(size)


def _sum(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def lacking(
    wanted: Sequence[Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Those that are not there, or are there as something else."""
    return [
        item
        for item in wanted
        if there.get(item["wanted"]["name"], {}).get("definition") != item["definition"]
    ]


def live(there: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Jobs that are alive in some containers."""
    return [
        f"{name} ({job})" for name, item in there.items() if name in names for job in item["jobs"]
    ]


def host_keys(there: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Node -> type and key of its sshd."""
    return {item["node"]: item["host_key"] for item in there.values() if item["host_key"]}
