# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What one node tells of its network, as plain data; nothing is changed and nothing is sent.

``gather`` returns the same data for the same state of a node, so that two of them can be compared:

- ``interfaces``: name, kind (physical, ipoib, bond, vlan, bridge, veth, loopback, ... as iproute2
  says it), up, mtu, speed (Mb/s or None), master, mode (of a bond), addresses (address, prefix,
  family, scope).
- ``routes``: peer's address -> resolved, interface, source, via (a gateway), local, or error.
- ``hcas``: a port of an RDMA device each: name, port, driver, link_layer (InfiniBand, Ethernet,
  Unknown), active, rate (Gb/s), interface, gids (index, type, gid, interface).
- ``plugins``: external network plugins of NCCL (libnccl-net*.so).
- ``gpudirect``: gpus (a number), peermem (the kernel module is loaded), dmabuf (kernel and open
  driver can), and so whether a GPU's memory can be reached by an HCA.
- ``preset``: what the machine sets already: name, value, where.
- ``topology``: ``nvidia-smi topo -m``, if it is asked for and there.

The converging program of a node carries this file. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import fcntl
import glob
import ipaddress
import json
import os
import re
import socket
import struct
import subprocess

SECONDS = 20
_PRESET = re.compile(r"(NCCL|GLOO)_\w+")
_WITH_SPEED = ("physical", "ipoib", "bond", "vlan")  # the kernel makes one up for others
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_LIBRARIES = (  # where images and clouds keep NCCL's external plugins, beside the linker's folders
    "/opt/hpcx/nccl_rdma_sharp_plugin/lib",
    "/opt/amazon/ofi-nccl/lib*",
    "/opt/amazon/ofi-nccl/lib*/*-linux-gnu",
    "/opt/aws-ofi-nccl/lib",
    "/usr/local/nccl-rdma-sharp-plugins/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/gib/lib64",
    "/usr/local/lib",
    "/usr/lib/*-linux-gnu",
    "/usr/lib64",
)


def gather(peers: list, topology: bool = False, root: str = "/") -> dict:
    """Look at this node.

    Args:
        peers: Addresses or names of nodes, this one's may be among them.
        topology: Ask ``nvidia-smi`` for the distances of GPUs and NICs, which takes a second.
        root: Where ``sys``, ``proc`` and ``etc`` lie.
    """
    resolved = {str(peer): resolve(str(peer)) for peer in peers}
    targets = sorted({address for address, _ in resolved.values() if address})
    told = _ask_ip(targets)
    links, found = told if told is not None else _without_ip(targets, root)
    speeds = {link["ifname"]: _number(_sys(root, "net", link["ifname"], "speed")) for link in links}
    used = {route.get("interface") for route in found.values()}
    routes = {}
    for peer, (address, problem) in resolved.items():
        route = found.get(address, {"error": "no route"}) if address else {"error": problem}
        routes[peer] = {"resolved": address, **route}
    return {
        "interfaces": interfaces(links, speeds, used),
        "routes": routes,
        "hcas": hcas(root),
        "plugins": plugins(root),
        "gpudirect": gpudirect(root),
        "preset": preset(os.environ, _read(os.path.join(root, "etc/nccl.conf"))),
        "topology": _topology() if topology else None,
    }


def resolve(peer: str) -> tuple:
    """The IP address of a peer and None, or None and why there is none."""
    try:
        return str(ipaddress.ip_address(peer)), None
    except ValueError:
        pass
    try:
        return socket.getaddrinfo(peer, None, type=socket.SOCK_STREAM)[0][4][0], None
    except OSError as problem:
        return None, f"the name is not known here: {problem}"


# iproute2


def _ask_ip(targets: list) -> tuple | None:
    """Links and routes in one execution of ``ip``; None where there is no ``ip`` that can."""
    batch = "".join(["address show\n", *(f"route get {target}\n" for target in targets)])
    argv = ["ip", "-j", "-d", "-force", "-batch", "-"]
    try:
        done = subprocess.run(
            argv, input=batch, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return split(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def split(text: str) -> tuple:
    """Links, and routes by destination, of what ``ip -j -batch`` printed.

    Raises:
        ValueError: It is no JSON, or has no links.
    """
    documents, decoder, place = [], json.JSONDecoder(), 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        document, place = decoder.raw_decode(text, place)
        documents += document
    links = [item for item in documents if "ifname" in item]
    if not links:
        raise ValueError("no links")
    return links, {item["dst"]: route(item) for item in documents if "dst" in item}


def route(told: dict) -> dict:
    """A route as ``ip -j route get`` tells it."""
    return {
        "interface": told.get("dev"),
        "source": told.get("prefsrc") or told.get("src"),
        "via": told.get("gateway") or (told.get("via") or {}).get("host"),
        "local": told.get("type") == "local",
    }


def interfaces(links: list, speeds: dict, used: set | None = None) -> list:
    """Interfaces as ``ip -j -d address`` tells them, by name.

    Ports of containers (veth without an address that no route takes) come and go, and are left out.
    """
    found = []
    for link in links:
        kind, info = _kind(link), link.get("linkinfo") or {}
        addresses = [_address(item) for item in link.get("addr_info") or [] if item.get("local")]
        own = any(item["scope"] == "global" for item in addresses)
        if kind == "veth" and not own and link["ifname"] not in (used or set()):
            continue
        carrying = "UP" in link["flags"] and "NO-CARRIER" not in link["flags"]
        speed = speeds.get(link["ifname"]) if kind in _WITH_SPEED else None
        found.append(
            {
                "name": link["ifname"],
                "kind": kind,
                "up": carrying,
                "mtu": int(link["mtu"]),
                "speed": speed if speed and speed > 0 and carrying else None,
                "master": link.get("master"),
                "mode": (info.get("info_data") or {}).get("mode") if kind == "bond" else None,
                "addresses": sorted(addresses, key=lambda item: (item["family"], item["address"])),
            }
        )
    return sorted(found, key=lambda item: item["name"])


def _kind(link: dict) -> str:
    told = (link.get("linkinfo") or {}).get("info_kind")
    if link.get("link_type") == "loopback":
        return "loopback"
    if link.get("link_type") == "infiniband":
        return "ipoib"
    return told or "physical"


def _address(told: dict) -> dict:
    return {
        "address": told["local"],
        "prefix": int(told["prefixlen"]),
        "family": 6 if told["family"] == "inet6" else 4,
        "scope": told.get("scope", "global"),
    }


# Nodes without iproute2, or with one that knows no JSON


def _without_ip(targets: list, root: str) -> tuple:
    """The same from the kernel itself, without bonds' modes."""
    links = []
    sixth = _read(os.path.join(root, "proc/net/if_inet6")).splitlines()
    for _, name in socket.if_nameindex():
        flags = _number(_sys(root, "net", name, "flags"), 16) or 0
        carrier = _sys(root, "net", name, "carrier") != "0"
        kind = _kind_of(root, name)
        links.append(
            {
                "ifname": name,
                "flags": ["UP"] * (flags & 1) + ["NO-CARRIER"] * (not carrier),
                "mtu": _number(_sys(root, "net", name, "mtu")) or 0,
                "link_type": {"772": "loopback", "32": "infiniband"}.get(
                    _sys(root, "net", name, "type")
                ),
                "master": _linked(root, "net", name, "master"),
                "linkinfo": {"info_kind": kind} if kind else {},
                "addr_info": [*_fourth(name), *_sixth(name, sixth)],
            }
        )
    holders = {item["local"]: link["ifname"] for link in links for item in link["addr_info"]}
    return links, {target: _connected(target, holders) for target in targets}


def _kind_of(root: str, name: str) -> str | None:
    """The kind as iproute2 says it; a virtual interface that the kernel gives no type is a veth."""
    told = re.search(r"^DEVTYPE=(\w+)", _sys(root, "net", name, "uevent"), re.MULTILINE)
    path = os.path.realpath(os.path.join(root, "sys/class/net", name))
    if told or "/virtual/" not in path:
        return told.group(1) if told else None
    return "tun" if _sys(root, "net", name, "tun_flags") else "veth"


def _fourth(name: str) -> list:
    packed = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            local, mask = (
                socket.inet_ntoa(fcntl.ioctl(asked.fileno(), what, packed)[20:24])
                for what in (_SIOCGIFADDR, _SIOCGIFNETMASK)
            )
        except OSError:
            return []
    prefix = ipaddress.ip_network(f"0.0.0.0/{mask}").prefixlen
    scope = "host" if local.startswith("127.") else "global"
    return [{"local": local, "prefixlen": prefix, "family": "inet", "scope": scope}]


def _sixth(name: str, lines: list) -> list:
    found = []
    for line in lines:
        text, _, prefix, scope, _, device = line.split()
        if device == name:
            local = str(ipaddress.ip_address(int(text, 16).to_bytes(16, "big")))
            named = {"00": "global", "20": "link", "10": "host"}.get(scope, "global")
            item = {"local": local, "prefixlen": int(prefix, 16), "family": "inet6"}
            found.append({**item, "scope": named})
    return found


def _connected(target: str, holders: dict) -> dict:
    """The route to a target, from the source that the kernel gives a socket; sends nothing."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((target, 9))
        except OSError as problem:
            return {"error": problem.strerror}
        source = asked.getsockname()[0]
    device = holders.get(source)
    local = target in holders
    return {"interface": "lo" if local else device, "source": source, "via": None, "local": local}


# RDMA


def hcas(root: str = "/") -> list:
    """Ports of RDMA devices, from sysfs."""
    found = []
    for folder in glob.glob(os.path.join(root, "sys/class/infiniband/*/ports/*")):
        device, port = folder.split(os.sep)[-3], folder.split(os.sep)[-1]
        above = os.path.join(root, "sys/class/infiniband", device)
        gids = _gids(folder)
        nets = (
            sorted(os.listdir(os.path.join(above, "device/net")))
            if os.path.isdir(os.path.join(above, "device/net"))
            else []
        )
        through = [gid["interface"] for gid in gids if gid["interface"]]
        found.append(
            {
                "name": device,
                "port": int(port),
                "driver": os.path.basename(os.path.realpath(os.path.join(above, "device/driver")))
                if os.path.exists(os.path.join(above, "device/driver"))
                else None,
                "link_layer": _read(os.path.join(folder, "link_layer")) or "Unknown",
                "active": _read(os.path.join(folder, "state")).endswith("ACTIVE"),
                "rate": rate(_read(os.path.join(folder, "rate"))),
                "interface": (through or nets or [None])[0],
                "gids": gids,
            }
        )
    return sorted(found, key=lambda item: (natural(item["name"]), item["port"]))


def rate(text: str) -> float | None:
    """Gb/s of what sysfs or ibstatus say, for instance ``200 Gb/sec (4X HDR)``."""
    told = re.match(r"\s*([\d.]+)", text)
    return float(told.group(1)) if told else None


def natural(name: str) -> list:
    """Sorts mlx5_2 before mlx5_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _gids(folder: str) -> list:
    found = []
    for path in glob.glob(os.path.join(folder, "gids/*")):
        index, gid = os.path.basename(path), _read(path)
        if not gid.replace(":", "").strip("0"):
            continue
        text = _read(os.path.join(folder, "gid_attrs/types", index))
        device = _read(os.path.join(folder, "gid_attrs/ndevs", index))
        found.append({"index": int(index), "type": text, "gid": gid, "interface": device or None})
    return sorted(found, key=lambda item: item["index"])


def plugins(root: str = "/") -> list:
    """External network plugins of NCCL that the linker, or an image's usual folders, hold."""
    folders = [root.rstrip("/") + folder for folder in _LIBRARIES]
    for file in glob.glob(os.path.join(root, "etc/ld.so.conf.d/*.conf")):
        lines = [line.strip() for line in _read(file).splitlines()]
        folders += [root.rstrip("/") + line for line in lines if line.startswith("/")]
    folders += [item for item in os.environ.get("LD_LIBRARY_PATH", "").split(":") if item]
    names = {path for folder in folders for path in glob.glob(f"{folder}/libnccl-net*.so")}
    return sorted({os.path.realpath(name) for name in names})


def gpudirect(root: str = "/") -> dict:
    """Whether HCAs can reach the memory of GPUs."""
    modules = os.path.join(root, "sys/module")
    loaded = ("nvidia_peermem", "nv_peer_mem")
    version = _read(os.path.join(root, "proc/driver/nvidia/version"))
    kernel = [int(part) for part in re.findall(r"\d+", _read(f"{root}/proc/sys/kernel/osrelease"))]
    return {
        "gpus": len(glob.glob(os.path.join(root, "proc/driver/nvidia/gpus/*"))),
        "peermem": any(os.path.isdir(os.path.join(modules, name)) for name in loaded),
        "dmabuf": "Open Kernel Module" in version and kernel[:2] >= [5, 12],
    }


def preset(environment: object, conf: str) -> list:
    """What the machine sets for NCCL and Gloo: in its environment, or in /etc/nccl.conf."""
    found = {}
    for line in conf.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            found[name.strip()] = (value.strip(), "/etc/nccl.conf")
    for name, value in dict(environment).items():
        if _PRESET.fullmatch(name):
            found[name] = (value, "the environment of a login")
    return [
        {"name": name, "value": value, "where": where}
        for name, (value, where) in sorted(found.items())
    ]


def _topology() -> dict | None:
    try:
        argv = ["nvidia-smi", "topo", "-m"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return topology(done.stdout) if done.returncode == 0 else None


def topology(text: str) -> dict:
    """GPU -> NIC -> distance (PIX, PXB, PHB, NODE, SYS) of what ``nvidia-smi topo -m`` prints."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    rows = [line.split() for line in text.splitlines() if line.strip()]
    heads = next((row for row in rows if row[0] == "GPU0" and "X" not in row), [])
    columns = [name for name in heads if re.fullmatch(r"GPU\d+|NIC\d+|\w+_\w*\d+", name)]
    names = dict(re.findall(r"(NIC\d+):\s*(\S+)", text))
    found = {}
    for row in rows:
        if re.fullmatch(r"GPU\d+", row[0]) and "X" in row:
            distances = dict(zip(columns, row[1:]))  # noqa: B905 a node may have Python 3.9
            found[row[0]] = {
                names.get(name, name): distance
                for name, distance in distances.items()
                if not name.startswith("GPU")
            }
    return found


# Files


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _sys(root: str, *parts: str) -> str:
    return _read(os.path.join(root, "sys/class", *parts))


def _linked(root: str, *parts: str) -> str | None:
    path = os.path.join(root, "sys/class", *parts)
    return os.path.basename(os.path.realpath(path)) if os.path.exists(path) else None


def _number(text: str, base: int = 10) -> int | None:
    try:
        return int(text, base)
    except ValueError:
        return None
