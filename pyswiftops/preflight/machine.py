"""Shared memory, disks, main memory, limits and clocks of the nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyswiftops import forecast
from pyswiftops.forecast import size
from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Facts, Fleetwide, Found, Severity
from pyswiftops.specs.preflight import Check
from pyswiftops.stages.node import NodeFacts

MIB, GIB = 1 << 20, 1 << 30
SHM_LEAST, SHM_GOOD = 64 * MIB, GIB  # a rank: NCCL's buffers, then data loaders
SHM_FLOOR = 256 * MIB  # however few ranks
DISK_LEAST, DISK_GOOD = GIB, 10 * GIB
INODES_LEAST = 10_000
NOFILE_LEAST, NOFILE_GOOD = 1024, 65536
PROCESSES_LEAST, PROCESSES_GOOD = 512, 4096
MEMLOCK_GOOD = 64 * MIB
# torch's dynamic rendezvous takes a node for dead whose heartbeats are 3 times 5 s old, by clocks
# of the nodes: torch/distributed/elastic/rendezvous/dynamic_rendezvous.py, RendezvousTimeout.
CLOCK_APART, CLOCK_TOO_FAR = 1.0, 15.0
ADAM_BYTES = 12  # a parameter: master weight and both moments in float32, as Megatron keeps them
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
LORA_SHARE = 0.05  # of the base model, generously


def shm(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Shared memory: docker's 64 MB end data loaders with a bus error and NCCL with a full disk."""
    for node in asked.nodes:
        told = facts.get(node.name, {}).get("shm")
        if told is None:
            continue
        least, good = max(SHM_FLOOR, SHM_LEAST * node.ranks), SHM_GOOD * node.ranks
        remedy = _shm_remedy(asked, node)
        if told["error"]:
            found = (Severity.BLOCK, "a /dev/shm that can be written", told["error"])
        elif told["free"] < least:
            what = f"{size(told['free'])} free of {size(told['size'])}"
            found = (Severity.BLOCK, f"{size(least)} free in /dev/shm", what)
        elif told["size"] < good and asked.device == "gpu":
            found = (Severity.WARN, f"a /dev/shm of {size(good)}", size(told["size"]))
        else:
            continue
        yield Found(Check.SHM, found[0], node.name, found[1], found[2], remedy)


def _shm_remedy(asked: Asked, node: NodeFacts) -> str:
    whole = f"{max(1, node.ranks) * 8}g"
    if asked.runtime == "container":
        return f"set container.shm_size: {whole} and swiftops up, or docker run --shm-size={whole}"
    return f"mount -o remount,size={whole} /dev/shm"


def disk(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Room, and what the run's checkpoints will take of it."""
    for name, told in facts.items():
        for what, item in (told.get("disks") or {}).items():
            yield from _one_disk(name, what, item, asked)
    yield from _planned(asked, facts)


def _one_disk(name: str, what: str, item: Mapping[str, Any], asked: Asked) -> Iterator[Found]:
    def found(severity: Severity, expected: str, told: str, remedy: str) -> Found:
        return Found(Check.DISK, severity, name, expected, told, remedy)

    if item.get("error"):
        yield found(Severity.BLOCK, "a disk that answers", item["error"], f"df -h {item['path']}")
        return
    place, free = item["place"], int(item["free"])
    least = DISK_LEAST if what == "root" else DISK_LEAST // 4
    if not item["writable"]:
        told = f"{place} cannot be written"
        yield found(
            Severity.BLOCK, f"a folder for {what} that can be written", told, f"ls -ld {place}"
        )
    elif free < least:
        told = f"{size(free)} of {size(item['total'])}"
        yield found(
            Severity.BLOCK, f"{size(least)} free in {place}", told, f"du -xsh {place}/* | sort -h"
        )
    elif free < DISK_GOOD and what == "root" and asked.device == "gpu":
        told = f"{size(free)} of {size(item['total'])}"
        yield found(Severity.WARN, f"{size(DISK_GOOD)} free in {place}", told, f"du -xsh {place}/*")
    inodes = item.get("inodes_free")
    if inodes is not None and int(inodes) < INODES_LEAST:
        expected = f"{INODES_LEAST} free inodes in {place}"
        yield found(Severity.BLOCK, expected, str(inodes), f"df -i {place}")
    kind = item["mount"]["type"]
    if what == "root" and kind == "overlay":
        told = f"{place} lies in the container's own layer"
        remedy = "mount a folder of the host there: container.mounts"
        yield found(Severity.WARN, "a root that outlives the container", told, remedy)
    elif what == "root" and kind in {"tmpfs", "ramfs"}:
        told = f"{place} lies in memory ({kind})"
        yield found(Severity.WARN, "a root on a disk", told, "set root: to a folder on a disk")


def _planned(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """What convert, every save, gather and export will need, against what is free."""
    rooms = planned_rooms(asked, facts)
    if not rooms or asked.spec is None:
        return
    spec = asked.spec
    steps = forecast.total_steps(
        spec.training.iterations, spec.training.epochs, asked.rows, spec.training.global_batch_size
    )
    count = forecast.saves(steps, spec.training.save_every) if steps else 1
    for outlook in forecast.disks(rooms, count, spec.output.keep):
        if outlook.ok is False:
            node = outlook.subject.removeprefix("disk of ")
            yield Found(
                Check.DISK,
                Severity.BLOCK,
                node,
                f"room for {count} checkpoints, as estimated from the model's size",
                outlook.detail,
                "make room, or set output.keep, training.save_every, output.save_optimizer: false",
            )


def planned_rooms(asked: Asked, facts: Fleetwide) -> list[forecast.NodeRoom]:
    """Each node's room and the estimated sizes; empty where the model's size is not known."""
    spec = asked.spec
    models = [told.get("model") or {} for told in facts.values()]
    weights = max((int(told.get("bytes") or 0) for told in models), default=0)
    known = len(facts) == len(asked.nodes) and all("disks" in told for told in facts.values())
    if spec is None or not weights or not known:
        return []
    dtype = next((str(told["dtype"]) for told in models if told.get("dtype")), "")
    checkpoint = checkpoint_bytes(
        weights, dtype, lora=spec.method.tuner == "lora", optimizer=spec.output.save_optimizer
    )
    base = 0 if spec.method.bridge or spec.method.backend == "swift" else weights
    rooms = []
    for node in asked.nodes:
        item = facts[node.name]["disks"]["root"]
        first = node == asked.nodes[0]
        rooms.append(
            forecast.NodeRoom(
                node=node.name,
                filesystem=item["filesystem"],
                free=int(item["free"]),
                base=base,
                roundtrip=base if first else 0,
                checkpoint=checkpoint // len(asked.nodes),
                export=weights if first else 0,
            )
        )
    return rooms


def checkpoint_bytes(weights: int, dtype: str, *, lora: bool, optimizer: bool) -> int:
    """Bytes of one checkpoint over all nodes, estimated.

    Args:
        weights: Bytes of the base model's weights.
        dtype: Theirs; one that is not known counts as two bytes.
        lora: Whether adapters alone are trained.
        optimizer: Whether the optimizer is saved too.
    """
    each = DTYPE_BYTES.get(dtype, 2)
    moved = weights * (LORA_SHARE if lora else 1.0)
    return int(moved + (moved / each * ADAM_BYTES if optimizer else 0))


def memory(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Main memory that is there, and sameness of it."""
    for name, told in facts.items():
        item = told.get("memory") or {}
        total, free = int(item.get("total") or 0), int(item.get("available") or 0)
        if total and free < GIB // 2:
            yield Found(
                Check.MEMORY,
                Severity.WARN,
                name,
                f"{size(GIB // 2)} of memory available",
                f"{size(free)} of {size(total)}",
                "ps aux --sort=-rss | head",
            )
        limit = int(item.get("limit") or 0)
        if limit and asked.device == "gpu" and limit < total // 4:
            yield Found(
                Check.MEMORY,
                Severity.WARN,
                name,
                "a container that may use the machine's memory",
                f"a limit of {size(limit)} of {size(total)}",
                "start it without --memory",
            )


def limits(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Locked memory, open files and processes, as jobs get them."""
    for name, told in facts.items():
        item = told.get("limits")
        if item is None or "error" in item:
            continue
        yield from _memlock(name, item, asked)
        nofile = int(item["limits"]["nofile"][0])
        good = NOFILE_GOOD if asked.device == "gpu" else NOFILE_LEAST
        if 0 <= nofile < good:
            severity = Severity.BLOCK if nofile < NOFILE_LEAST else Severity.WARN
            yield _limit(name, severity, f"nofile of {good}", str(nofile), asked, "nofile")
        yield from _processes(name, item, asked)


def _limit(  # noqa: PLR0917 a finding's own parts
    name: str, severity: Severity, expected: str, found: str, asked: Asked, which: str
) -> Found:
    value = {"memlock": "-1", "nofile": "1048576", "nproc": "-1"}[which]
    if asked.runtime == "container":
        remedy = f"add {which}={value} to container.ulimits and swiftops up"
    else:
        word = "unlimited" if value == "-1" else value
        remedy = f"echo '* - {which} {word}' > /etc/security/limits.d/90-{which}.conf; log in anew"
    return Found(Check.LIMITS, severity, name, expected, found, remedy)


def _memlock(name: str, item: Facts, asked: Asked) -> Iterator[Found]:
    memlock = int(item["limits"]["memlock"][0])
    if memlock < 0 or memlock >= MEMLOCK_GOOD or item["ipc_lock"]:
        return
    adapters = item.get("infiniband") or []
    if adapters:
        found = f"{size(memlock)}, with {', '.join(adapters)}: NCCL cannot register its buffers"
        yield _limit(name, Severity.BLOCK, "memlock without limit", found, asked, "memlock")
    elif asked.device == "gpu":
        yield _limit(name, Severity.WARN, "memlock without limit", size(memlock), asked, "memlock")


def _processes(name: str, item: Facts, asked: Asked) -> Iterator[Found]:
    nproc = int(item["limits"]["nproc"][0])
    root = int(item["user"]) == 0
    known = {
        "nproc": nproc if nproc >= 0 and not root else None,  # root is not held to it
        "pids.max of its cgroup": item.get("pids_max"),
        "kernel.threads-max": item.get("threads_max"),
    }
    for which, value in known.items():
        if value is None or int(value) >= PROCESSES_GOOD:
            continue
        severity = Severity.BLOCK if int(value) < PROCESSES_LEAST else Severity.WARN
        remedies = {
            "pids.max of its cgroup": "start the container without --pids-limit",
            "kernel.threads-max": "sysctl -w kernel.threads-max=1000000",
        }
        expected = f"{which} of {PROCESSES_GOOD}"
        if which in remedies:
            yield Found(Check.LIMITS, severity, name, expected, str(value), remedies[which])
        else:
            yield _limit(name, severity, expected, str(value), asked, "nproc")


def clock(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Clocks of the nodes against each other, to within half a round trip; and the controller's."""
    if asked.one_machine:
        return
    yield from _against_the_controller(facts)
    reference = next((node.name for node in asked.nodes if node.name in facts), None)
    if reference is None:
        return
    peers = (facts[reference].get("meeting") or {}).get("peers") or {}
    for name, peer in peers.items():
        if peer["offset"] is None:
            continue
        offset, bound = peer["offset"]
        least = max(0.0, abs(offset) - bound)
        if least < CLOCK_APART:
            continue
        severity = Severity.BLOCK if least >= CLOCK_TOO_FAR else Severity.WARN
        side = "ahead of" if offset > 0 else "behind"
        yield Found(
            Check.CLOCK,
            severity,
            name,
            f"clocks within {CLOCK_APART:g} s",
            f"{abs(offset):.2f} s {side} {reference}, to within {bound:.3f} s",
            "systemctl restart chrony || timedatectl set-ntp true",
        )


def _against_the_controller(facts: Fleetwide) -> Iterator[Found]:
    """A node that looked before it was asked, or after it had answered, has another time."""
    for name, told in facts.items():
        times = told.get("clock") or {}
        if "asked" not in times:
            continue
        begin, end = times["asked"]
        ahead, behind = times["began"] - end, begin - times["ended"]
        least = max(ahead, behind)
        if least < CLOCK_APART:
            continue
        side = "ahead of" if ahead > behind else "behind"
        yield Found(
            Check.CLOCK,
            Severity.WARN,
            name,
            "a clock near the controller's",
            f"at least {least:.0f} s {side} it",
            "systemctl restart chrony || timedatectl set-ntp true, on the one that is wrong",
        )
