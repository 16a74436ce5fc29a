"""Texts that people published of their machines -> the facts that such a machine would tell.

The module itself reads ``ip -j`` and sysfs; what is published is mostly what ``ip``, ``ifconfig``,
``ibstat`` and their like print for people.
"""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from plugins.module_utils import network_facts

Ports = dict[tuple[str, int], dict[str, Any]]
LAYERS = {"infiniband": "InfiniBand", "ethernet": "Ethernet"}


def ip_text(text: str) -> list[dict[str, Any]]:
    """``ip address`` for people, as ``ip -j address`` has it."""
    links: list[dict[str, Any]] = []
    for line in text.splitlines():
        head = re.match(r"\d+: ([^:@]+)\S*: <([^>]*)> mtu (\d+)(.*)", line.strip())
        if head:
            name, flags, mtu, rest = head.groups()
            master = re.search(r"master (\S+)", rest)
            link = {"ifname": name, "flags": flags.split(","), "mtu": int(mtu), "addr_info": []}
            links.append({**link, "master": master.group(1) if master else None})
        elif kind := re.match(r"\s*link/(\S+)", line):
            links[-1]["link_type"] = kind.group(1)
        elif told := re.match(r"\s*(inet6?) ([^/ ]+)/(\d+).* scope (\w+)", line):
            family, local, prefix, scope = told.groups()
            item = {"family": family, "local": local, "prefixlen": int(prefix), "scope": scope}
            links[-1]["addr_info"].append(item)
    return links


def ifconfig(text: str) -> list[dict[str, Any]]:
    """``ifconfig`` of net-tools 2."""
    links: list[dict[str, Any]] = []
    for line in text.splitlines():
        if head := re.match(r"(\S+): flags=\d+<([^>]*)>\s+mtu (\d+)", line):
            name, flags, mtu = head.groups()
            kind = "loopback" if "LOOPBACK" in flags else "ether"
            carrier = [] if "RUNNING" in flags else ["NO-CARRIER"]
            link = {"ifname": name, "mtu": int(mtu), "link_type": kind, "addr_info": []}
            links.append({**link, "flags": [*flags.split(","), *carrier]})
        elif told := re.match(r"\s*inet (\S+)\s+netmask (\S+)", line):
            prefix = ipaddress.ip_network(f"0.0.0.0/{told.group(2)}").prefixlen
            scope = "host" if told.group(1).startswith("127.") else "global"
            item = {"family": "inet", "local": told.group(1), "prefixlen": prefix, "scope": scope}
            links[-1]["addr_info"].append(item)
        elif told := re.match(r"\s*inet6 (\S+)\s+prefixlen (\d+)\s+scopeid \S+<(\w+)>", line):
            local, long, scope = told.groups()
            item = {"family": "inet6", "local": local, "prefixlen": int(long), "scope": scope}
            links[-1]["addr_info"].append(item)
    return links


def show_gids(text: str) -> Ports:
    """``show_gids`` of MLNX_OFED."""
    ports: Ports = {}
    pattern = r"(\S+)\s+(\d+)\s+(\d+)\s+([0-9a-f:]{15,})\s+(?:[\d.]+\s+)?v([12])\s+(\S+)"
    for device, port, index, gid, version, interface in re.findall(pattern, text):
        told = ports.setdefault((device, int(port)), {"link_layer": "Ethernet", "active": True})
        kind = "RoCE v2" if version == "2" else "IB/RoCE v1"
        item = {"index": int(index), "type": kind, "gid": gid, "interface": interface}
        told.setdefault("gids", []).append(item)
        told["interface"] = interface
    return ports


def ibdev2netdev(text: str) -> Ports:
    """``ibdev2netdev``: Up and Down are those of the network interface."""
    ports: Ports = {}
    pattern = r"(\S+)\s+port\s+(\d+)\s+==>\s+(\S+)\s+\((Up|Down)\)"
    for device, port, interface, state in re.findall(pattern, text):
        layer = "InfiniBand" if interface.startswith("ib") else "Ethernet"
        told = {"interface": interface, "link_layer": layer, "active": state == "Up"}
        ports[device, int(port)] = told
    return ports


def ibstat(text: str) -> Ports:
    """``ibstat``."""
    ports: Ports = {}
    device, told = "", {}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if adapter := re.match(r"CA '(\S+)'", line):
            device = adapter.group(1)
        elif port := re.fullmatch(r"Port (\d+)", name):
            told = ports.setdefault((device, int(port.group(1))), {})
        elif name == "State":
            told["active"] = value == "Active"
        elif name == "Rate":
            told["rate"] = float(value)
        elif name == "Link layer":
            told["link_layer"] = LAYERS.get(value.lower(), "Unknown")
    return ports


def ibstatus(text: str) -> Ports:
    """``ibstatus``; its default GID has index 0."""
    ports: Ports = {}
    told: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if head := re.match(r"Infiniband device '(\S+)' port (\d+) status", line.strip()):
            told = ports.setdefault((head.group(1), int(head.group(2))), {})
        elif name == "state":
            told["active"] = value.endswith("ACTIVE")
        elif name == "rate":
            told["rate"] = network_facts.rate(value)
        elif name == "link_layer":
            told["link_layer"] = LAYERS[value.lower()]
        elif name == "default gid":
            item = {"index": 0, "type": "IB/RoCE v1", "gid": value, "interface": None}
            told["gids"] = [item]
    return ports


def ibv_devinfo(text: str) -> Ports:
    """``ibv_devinfo``, with ``-v`` or without."""
    ports: Ports = {}
    device, told = "", {}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "hca_id":
            device = value
        elif name == "port":
            told = ports.setdefault((device, int(value)), {})
        elif name == "state":
            told["active"] = "ACTIVE" in value
        elif name == "link_layer":
            told["link_layer"] = LAYERS[value.lower()]
        elif gid := re.match(r"GID\[\s*(\d+)\]:\s*(\S+?),\s*(.+)", line.strip()):
            index, address, kind = gid.groups()
            item = {"index": int(index), "type": kind, "gid": address, "interface": None}
            told.setdefault("gids", []).append(item)
    return ports


def nccl(text: str) -> Ports:
    """The line of NCCL_DEBUG=INFO that names its devices."""
    layers = {"IB": "InfiniBand", "RoCE": "Ethernet"}
    return {
        (device, int(port)): {"link_layer": layers[kind], "active": True}
        for device, port, kind in re.findall(r"\[\d+\](\S+):(\d+)/(IB|RoCE)", text)
    }


def nccl_links(text: str) -> list[dict[str, Any]]:
    """Interfaces of NCCL's bootstrap line, by name and kind alone."""
    names = re.findall(r"Bootstrap : Using (\S+?):", text)
    kinds = {name: "infiniband" if name.startswith("ib") else "ether" for name in names}
    return [
        {"ifname": name, "flags": ["UP"], "mtu": 1500, "link_type": kind}
        for name, kind in kinds.items()
    ]


LINKS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "ip": ip_text,
    "ifconfig": ifconfig,
    "nccl": nccl_links,
}
PORTS: dict[str, Callable[[str], Ports]] = {
    "show_gids": show_gids,
    "ibdev2netdev": ibdev2netdev,
    "ibstat": ibstat,
    "ibstatus": ibstatus,
    "ibv_devinfo": ibv_devinfo,
    "nccl": nccl,
}
LOOPBACK = {
    "ifname": "lo",
    "flags": ["LOOPBACK", "UP"],
    "mtu": 65536,
    "link_type": "loopback",
    "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8, "scope": "host"}],
}


def facts(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What a machine would tell, without routes: recorded texts, and what is supposed beside."""
    recorded, supposed = machine["recorded"], machine.get("supposed") or {}
    tools = {**recorded, **(supposed.get("tools") or {})}
    links = _links(recorded, supposed.get("links") or {})
    speeds = {name: more.get("speed") for name, more in (supposed.get("links") or {}).items()}
    topology = recorded.get("topology")
    return {
        "interfaces": network_facts.interfaces(links, speeds),
        "routes": {},
        "hcas": _hcas(tools, supposed.get("ports") or {}),
        "plugins": supposed.get("plugins", []),
        "gpudirect": {
            "gpus": supposed.get("gpus", 8),
            "peermem": supposed.get("peermem", True),
            "dmabuf": False,
        },
        "preset": supposed.get("preset", []),
        "topology": network_facts.topology(topology) if topology else None,
    }


def _links(recorded: Mapping[str, str], supposed: Mapping[str, Any]) -> list[dict[str, Any]]:
    links = [copy.deepcopy(LOOPBACK)]
    if "ip_json" in recorded:
        links += network_facts.split(recorded["ip_json"])[0]
    for tool, read in LINKS.items():
        links += read(recorded[tool]) if tool in recorded else []
    by_name = {link["ifname"]: link for link in links}
    for name, more in supposed.items():
        new = {"ifname": name, "flags": ["UP"], "mtu": 1500, "link_type": "ether"}
        link = by_name.setdefault(name, new)
        link.setdefault("addr_info", [])
        if "address" in more:
            local, prefix = more["address"].split("/")
            family = "inet6" if ":" in local else "inet"
            item = {"family": family, "local": local, "prefixlen": int(prefix), "scope": "global"}
            link["addr_info"].append(item)
        if "kind" in more:
            link["linkinfo"] = {"info_kind": more["kind"], "info_data": {"mode": more.get("mode")}}
        link["mtu"] = more.get("mtu", link["mtu"])
    return list(by_name.values())


def _hcas(recorded: Mapping[str, str], supposed: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: Ports = {}
    for tool, read in PORTS.items():
        for port, told in read(recorded.get(tool, "")).items():
            found.setdefault(port, {}).update(told)
    for pattern, more in supposed.items():
        for (device, _), told in found.items():
            told.update(more if re.fullmatch(pattern, device) else {})
    empty = {"driver": None, "link_layer": "Unknown", "active": False, "rate": None}
    return sorted(
        (
            {"name": device, "port": port, **empty, "interface": None, "gids": [], **told}
            for (device, port), told in found.items()
        ),
        key=lambda item: (network_facts.natural(item["name"]), item["port"]),
    )


def beside(told: dict[str, Any], mine: str, theirs: str) -> dict[str, Any]:
    """The facts of a like machine with another address."""
    other = copy.deepcopy(told)
    for link in other["interfaces"]:
        for item in link["addresses"]:
            if item["address"] == mine:
                item["address"] = theirs
    return other


def with_route(told: dict[str, Any], mine: str, theirs: str, interface: str) -> dict[str, Any]:
    """Facts with the routes between two nodes."""
    here = {"resolved": mine, "interface": "lo", "source": mine, "via": None, "local": True}
    there = {"resolved": theirs, "interface": interface, "source": mine, "via": None}
    return {**told, "routes": {mine: here, theirs: {**there, "local": False}}}
