"""Nodes reach each other on the ports that ranks use, under the right names, past any proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Facts, Fleetwide, Found, Severity, listed
from pyswiftops.specs.preflight import Check

NOT_HERE = "cannot assign requested address"
TAKEN = "address already in use"
OTHER = "another program answers"


def ports(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Ports that the run names are free."""
    for node in asked.nodes:
        taken = facts.get(node.name, {}).get("ports") or ()
        if isinstance(taken, Mapping):
            continue  # it could not be looked at, which is told elsewhere
        for item in taken:
            who = f", process {item['pid']}: {item.get('command', '')}" if "pid" in item else ""
            yield Found(
                Check.PORTS,
                Severity.BLOCK,
                node.name,
                f"port {item['port']} free",
                f"something listens at {item['address']}:{item['port']}{who}",
                f"ss -ltnp 'sport = :{item['port']}'; or name another port, or auto",
            )


def reach(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Every node reaches every other on high ports: a firewall between them hangs NCCL for ever."""
    if not asked.several:
        return
    addresses = {node.name: node.address for node in asked.nodes}
    for name, told in facts.items():
        yield from _listens(name, addresses[name], told.get("meeting") or {})
    blocked: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, told in facts.items():
        for other, peer in ((told.get("meeting") or {}).get("peers") or {}).items():
            if other not in facts or not facts[other].get("meeting", {}).get("listening"):
                continue
            listening = facts[other]["meeting"]["listening"]
            for port, why in peer["ports"].items():
                if why and not listening.get(port) and why != OTHER:
                    kinds = blocked.setdefault((other, why), {})
                    kinds.setdefault(port, []).append(name)
    for (other, why), by_port in blocked.items():
        sources = list(dict.fromkeys(name for names in by_port.values() for name in names))
        yield Found(
            Check.REACH,
            Severity.BLOCK,
            other,
            "a port that listens can be reached from all nodes",
            f"{listed(sources)} cannot reach {addresses[other]} port {', '.join(by_port)}: "
            f"{_meaning(why)}",
            f"open all TCP ports between the nodes, on {other}: nft list ruleset; "
            "with firewalld: firewall-cmd --zone=trusted --add-source=SUBNET",
        )


def _listens(name: str, address: str, meeting: Facts) -> Iterator[Found]:
    for port, why in (meeting.get("listening") or {}).items():
        if NOT_HERE in why.lower():
            yield Found(
                Check.REACH,
                Severity.BLOCK,
                name,
                f"{address} to be an address of this node",
                why,
                "correct address or training_address of the fleet file: ip -br address",
            )
            return
        if why and TAKEN not in why.lower():
            yield Found(
                Check.REACH,
                Severity.WARN,
                name,
                f"a program may listen on port {port}",
                why,
                "ss -ltn",
            )


def _meaning(why: str) -> str:
    if why == "no answer":
        return "no answer: a firewall drops it, or there is no way there"
    if "refused" in why.lower():
        return "refused, though it listens: a firewall rejects it"
    return why


def names(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Names lead where they should, from everywhere."""
    for node in asked.nodes:
        told = facts.get(node.name, {}).get("names")
        if told is None or "error" in told:
            continue
        yield from _peers(node.name, told, asked)
        yield from _itself(node.name, told, asked, node.interface or told.get("interface"))
        if "127.0.0.1" not in told["localhost"]["addresses"]:
            what = ", ".join(told["localhost"]["addresses"]) or told["localhost"]["error"]
            remedy = "echo '127.0.0.1 localhost' >> /etc/hosts"
            yield Found(
                Check.NAMES, Severity.BLOCK, node.name, "localhost to be 127.0.0.1", what, remedy
            )
    yield from _differing(asked, facts)


def _peers(name: str, told: Facts, asked: Asked) -> Iterator[Found]:
    for peer, item in told["peers"].items():
        loops = [one for one in item["addresses"] if _is_loopback(one)]
        if not item["addresses"]:
            yield Found(
                Check.NAMES,
                Severity.BLOCK,
                name,
                f"an address of {peer}",
                item["error"],
                f"getent hosts {peer}; add it to DNS or /etc/hosts, or name addresses",
            )
        elif loops and asked.several and not asked.one_machine:
            yield Found(
                Check.NAMES,
                Severity.BLOCK,
                name,
                f"an address of {peer} that other nodes reach",
                f"{peer} is {listed(loops)} here: ranks would wait for themselves",
                f"take {peer} off the 127.* lines of /etc/hosts",
            )


def _itself(name: str, told: Facts, asked: Asked, interface: str | None) -> Iterator[Found]:
    """Gloo, and Ray, take the address of the host's own name where no interface is set."""
    if not asked.several or asked.one_machine:
        return
    own, hostname = told["own"], told["hostname"]
    loops = own["addresses"] and all(_is_loopback(one) for one in own["addresses"])
    if own["addresses"] and not loops:
        return
    what = f"{hostname} is {listed(own['addresses'])}" if loops else f"{hostname}: {own['error']}"
    yield Found(
        Check.NAMES,
        Severity.WARN if interface else Severity.BLOCK,
        name,
        "the node's own name to be an address that others reach",
        f"{what}: Gloo and Ray would listen where nobody comes",
        f"replace 127.0.1.1 of {hostname} in /etc/hosts by the node's address, "
        "or set training_interface",
    )


def _differing(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """A name that means one machine here and another there."""
    if asked.one_machine:
        return
    seen: dict[str, dict[str, list[str]]] = {}
    for name, told in facts.items():
        for peer, item in ((told.get("names") or {}).get("peers") or {}).items():
            reached = [one for one in item["addresses"] if not _is_loopback(one)]
            if reached:
                seen.setdefault(peer, {}).setdefault(listed(sorted(reached)), []).append(name)
    for peer, values in seen.items():
        if len(values) > 1:
            what = "; ".join(f"{value} on {listed(names)}" for value, names in values.items())
            yield Found(
                Check.NAMES,
                Severity.BLOCK,
                "",
                f"{peer} to be one address everywhere",
                what,
                "make /etc/hosts and DNS the same on all nodes, or name addresses",
            )


def proxy(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Traffic between nodes, and to this node itself, goes past the proxy."""
    local = ["localhost", "127.0.0.1"]
    fleet = [node.address for node in asked.nodes] if asked.several else []
    wanted = list(dict.fromkeys([*local, *fleet]))
    for name, told in facts.items():
        item = told.get("names") or {}
        for whose, severity in (("jobs", Severity.BLOCK), ("login", Severity.WARN)):
            set_here = (item.get(whose) or {}).get("proxies") or {}
            through = [
                one for one in wanted if not goes_past(one, item.get(whose, {}).get("no_proxy", ()))
            ]
            if not set_here or not through:
                continue
            shown = ", ".join(f"{key}={value}" for key, value in set_here.items())
            where = "env: of the fleet file" if whose == "jobs" else "the login's environment"
            yield Found(
                Check.PROXY,
                severity,
                name,
                f"no_proxy to name {listed(through)}",
                f"{shown} in {where}",
                f"in {where}: no_proxy={','.join(wanted[:8])}" + (",..." if wanted[8:] else ""),
            )


def goes_past(address: str, entries: Iterable[str]) -> bool:
    """Whether a list no_proxy lets an address or a name past the proxy.

    As Python's requests and curl (7.86 and later) read it: names by their end, addresses also by
    network; ``*`` is everything.
    """
    for entry in entries:
        bare = entry.strip().lstrip(".").lower()
        if bare in {"*", address.lower()}:
            return True
        if address.lower().endswith(f".{bare}") and not _is_number(address):
            return True
        if "/" in bare and _is_number(address) and _inside(address, bare):
            return True
    return False


def _inside(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: Any) -> bool:
    return (
        _is_number(str(text).partition("%")[0])
        and ipaddress.ip_address(str(text).partition("%")[0]).is_loopback
    )
