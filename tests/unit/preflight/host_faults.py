"""Faults of the host below two containers; the rest of the table is in ``faults``."""

from __future__ import annotations

from functools import partial

from pyswiftops.specs.preflight import Check

from .putting import BLOCK, ENGINE, HOST, ON, ON_A_HOST, WARN, Fault, at, log

Below = partial(Fault, node=HOST, fleet=ON_A_HOST)

HOST_FAULTS: dict[str, Fault] = {
    "host-upgrades-its-driver": Below(
        Check.UPGRADES,
        WARN,
        ("replace the driver", "--fix --only upgrades"),
        at("services/unattended_upgrades/on", ON, HOST),
    ),
    "host-takes-gpus-from-containers": Below(
        Check.ENGINE,
        WARN,
        ("when systemd reloads", "native.cgroupdriver=cgroupfs"),
        at("services/engine", ENGINE, HOST),
    ),
    "host-fabric-manager-apart": Below(
        Check.ENGINE,
        BLOCK,
        ("530.30.02", "nvidia-fabricmanager-550"),
        at("services/fabric_manager/version", "530.30.02", HOST),
    ),
    "host-xid": Below(
        Check.GPU_ERRORS,
        BLOCK,
        ("Xid 79", "fallen off the bus"),
        log("xid-off-the-bus.txt", HOST),
    ),
    "silent-host": Below(
        Check.NODES,
        WARN,
        ("an answer of a host",),
        lambda facts: facts.pop(HOST) and None,
    ),
}
