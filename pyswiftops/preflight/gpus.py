"""GPUs: there, alike, healthy, and free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pyswiftops.forecast import size
from pyswiftops.preflight.asked import Asked
from pyswiftops.preflight.finding import Facts, Fix, Fleetwide, Found, Severity, listed
from pyswiftops.specs.preflight import Check

# Source: NVIDIA, "Xid Errors" (docs.nvidia.com/deploy/xid-errors). What stands in neither group is
# told of as a warning.
XID_OF_PROGRAMS = {
    13: "graphics engine exception",
    31: "GPU memory page fault",
    43: "GPU stopped processing",
    45: "preemptive cleanup, after another error",
    68: "video processor exception",
}
XID_OF_HARDWARE = {
    48: "double bit ECC error",
    64: "row remapping failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    95: "uncontained ECC error",
    119: "GSP does not answer",
    120: "GSP error",
    140: "unrecovered ECC error",
    143: "GPU initialization error",
    145: "NVLink error (RLW)",
    149: "NVLink error (NETIR)",
    154: "GPU recovery action changed",
}
XID_OF_MEMORY = {
    63: "a row is to be remapped at the next reset",
    92: "many single bit ECC errors",
    94: "contained ECC error",
}
FOREIGN_BYTES = 1 << 30  # what another's process may hold without being in the way
RESET = "drain the node, then nvidia-smi --gpu-reset, or restart the machine"
LOST_GPUS = ("unknown error", "no devices were found")
MISMATCH = "driver/library version mismatch"


def gpus(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Every node has the GPUs that the fleet file names, and all have the same."""
    if asked.device != "gpu":
        return
    for node in asked.nodes:
        told = facts.get(node.name, {}).get("gpus")
        if told is not None:
            yield from _of_node(node.name, len(node.gpus) or node.ranks, told, asked)
    yield from _same(facts)


def _of_node(name: str, wanted: int, told: Facts, asked: Asked) -> Iterator[Found]:
    def found(severity: Severity, expected: str, what: str, remedy: str) -> Found:
        return Found(Check.GPUS, severity, name, expected, what, remedy)

    if not told.get("program"):
        what = told.get("error") or "no nvidia-smi"
        remedy = (
            "container.gpus: auto, and swiftops up"
            if asked.runtime == "container"
            else "install NVIDIA's driver, or set device: cpu"
        )
        yield found(Severity.BLOCK, f"{wanted} GPUs", what, remedy)
        return
    if told["error"]:
        yield found(Severity.BLOCK, f"{wanted} GPUs", told["error"], _cure(told["error"], asked))
        return
    here = told["gpus"]
    if len(here) < wanted:
        remedy = "nvidia-smi -L; lspci | grep -i nvidia; dmesg | grep -i xid"
        yield found(Severity.BLOCK, f"{wanted} GPUs", f"{len(here)}", remedy)
    models = Counter(gpu["name"] for gpu in here)
    if len(models) > 1:
        what = ", ".join(f"{count} x {model}" for model, count in models.items())
        remedy = "name those of one kind in gpus: of the fleet file"
        yield found(Severity.WARN, "one kind of GPU in a node", what, remedy)
    split = [str(gpu["index"]) for gpu in here if gpu.get("mig")]
    if split:
        what = f"MIG is on for GPU {listed(split)}"
        remedy = f"nvidia-smi -i {','.join(split)} -mig 0"
        yield found(Severity.BLOCK, "whole GPUs", what, remedy)
    drivers = {gpu["driver"] for gpu in here}
    if told.get("kernel_module") and drivers and told["kernel_module"] not in drivers:
        what = f"kernel module {told['kernel_module']}, library {', '.join(sorted(drivers))}"
        yield found(Severity.BLOCK, "one version of the driver", what, "restart the machine")


def _cure(error: str, asked: Asked) -> str:
    """What to do about what nvidia-smi said."""
    text = error.lower()
    if MISMATCH in text:
        return "restart the machine, then: apt-mark hold 'nvidia-*' 'libnvidia-*'"
    if any(word in text for word in LOST_GPUS) and asked.runtime == "container":
        return (
            "the container has lost its GPUs, as after systemctl daemon-reload: docker restart it; "
            "for good: CDI, or exec-opts native.cgroupdriver=cgroupfs in daemon.json"
        )
    return "nvidia-smi; dmesg | grep -i nvrm; restart the machine"


def _same(facts: Fleetwide) -> Iterator[Found]:
    """What should be the same on all nodes."""
    kinds: dict[str, tuple[Callable[[Facts], str], Severity, str]] = {
        "driver": (_drivers, Severity.WARN, "install one driver version on all nodes"),
        "CUDA of the driver": (
            lambda told: str(told.get("cuda") or ""),
            Severity.WARN,
            "install one driver version on all nodes",
        ),
        "GPU model": (_models, Severity.WARN, "the slowest GPU sets the pace: leave odd nodes out"),
        "number of GPUs": (
            lambda told: str(len(told["gpus"])),
            Severity.NOTE,
            "gpus: of the fleet file says how many are used",
        ),
    }
    for what, (value, severity, remedy) in kinds.items():
        found = {
            name: value(told["gpus"])
            for name, told in facts.items()
            if told.get("gpus", {}).get("gpus")
        }
        yield from differing(Check.GPUS, what, found, severity, remedy)


def _drivers(told: Facts) -> str:
    return ", ".join(sorted({gpu["driver"] for gpu in told["gpus"]}))


def _models(told: Facts) -> str:
    return ", ".join(sorted({f"{g['name']} ({size(g['memory_bytes'])})" for g in told["gpus"]}))


def differing(
    check: Check, what: str, values: dict[str, str], severity: Severity, remedy: str
) -> Iterator[Found]:
    """A finding for the nodes that have another value than most.

    Args:
        check: The check that looks.
        what: What is compared.
        values: node -> value; "" is none.
        severity: How bad it is.
        remedy: What to do.
    """
    known = {name: value for name, value in values.items() if value}
    if len(set(known.values())) < 2:  # noqa: PLR2004 two that differ
        return
    most = Counter(known.values()).most_common(1)[0][0]
    odd: dict[str, list[str]] = {}
    for name, value in known.items():
        if value != most:
            odd.setdefault(value, []).append(name)
    having = sum(value == most for value in known.values())
    for value, names in odd.items():
        yield Found(
            check,
            severity,
            listed(names),
            f"the same {what} on all nodes: {most}, as on {having} of them",
            value,
            remedy,
        )


def gpu_errors(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """Memory errors that nvidia-smi counts, and Xids of the kernel's log."""
    if asked.device != "gpu":
        return
    for name, told in facts.items():
        yield from _counted(name, told.get("gpus") or {})
        yield from _logged(name, told.get("kernel_log") or {})


def _counted(name: str, told: Facts) -> Iterator[Found]:
    def found(severity: Severity, expected: str, what: str, remedy: str) -> Found:
        return Found(Check.GPU_ERRORS, severity, name, expected, what, remedy)

    for gpu in told.get("gpus") or ():
        what = f"GPU {gpu['index']} ({gpu['uuid']})"
        if gpu.get("failure"):
            remedy = "take it out of the fleet file and have it replaced"
            yield found(
                Severity.BLOCK, "memory that mends itself", f"{what}: row remapping failed", remedy
            )
        elif gpu.get("pending"):
            told_of = f"{what}: a row waits to be remapped"
            yield found(Severity.BLOCK, "no pending row remapping", told_of, RESET)
        if gpu.get("uncorrected"):
            told_of = f"{what}: {gpu['uncorrected']} since the driver was loaded"
            yield found(Severity.WARN, "no uncorrected memory errors", told_of, RESET)


def _logged(name: str, log: Facts) -> Iterator[Found]:
    if log.get("error"):
        yield Found(
            Check.GPU_ERRORS,
            Severity.NOTE,
            name,
            "a kernel log that may be read, for Xids",
            log["error"],
            "sysctl -w kernel.dmesg_restrict=0, or log in as root",
        )
    seen: dict[tuple[str, int], list[str]] = {}
    for item in log.get("xid") or ():
        seen.setdefault((item["gpu"], int(item["code"])), []).append(str(item["detail"]))
    for (gpu, code), details in seen.items():
        severity, meaning, remedy = _xid(code)
        times = f", {len(details)} times" if len(details) > 1 else ""
        detail = details[-1][:160]
        yield Found(
            Check.GPU_ERRORS,
            severity,
            name,
            "no Xid since the machine started",
            f"GPU {gpu}: Xid {code} ({meaning}){times}: {detail}",
            remedy,
        )


def _xid(code: int) -> tuple[Severity, str, str]:
    if code in XID_OF_HARDWARE:
        return Severity.BLOCK, XID_OF_HARDWARE[code], RESET
    if code in XID_OF_MEMORY:
        return Severity.WARN, XID_OF_MEMORY[code], RESET
    if code in XID_OF_PROGRAMS:
        return Severity.NOTE, XID_OF_PROGRAMS[code], "mostly a program's own: look at its log"
    return Severity.WARN, "see NVIDIA's list of Xid errors", "dmesg | grep -i xid"


def kernel(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """What else of the kernel's log bears on a long run."""
    if asked.one_machine:
        facts = dict(list(facts.items())[:1])  # one log
    words = {
        "read_only": (Severity.BLOCK, "disks that can be written", "fsck it, then remount it"),
        "disk": (Severity.WARN, "disks without errors", "smartctl -a /dev/DISK"),
        "oom": (Severity.NOTE, "memory for all programs", "look whose it was: dmesg | grep -i oom"),
        "iommu": (Severity.WARN, "no faults of the IOMMU", "iommu=pt on the kernel's command line"),
    }
    for name, told in facts.items():
        seen: dict[str, list[str]] = {}
        for item in (told.get("kernel_log") or {}).get("other") or ():
            seen.setdefault(item["kind"], []).append(item["line"])
        for kind, lines in seen.items():
            severity, expected, remedy = words[kind]
            times = f" ({len(lines)} such lines)" if len(lines) > 1 else ""
            yield Found(Check.KERNEL, severity, name, expected, lines[-1][:200] + times, remedy)


def processes(asked: Asked, facts: Fleetwide) -> Iterator[Found]:
    """What is at work on the nodes: jobs of ours, what they left, and others."""
    for name, told in facts.items():
        item = told.get("processes")
        if item is None or "error" in item:
            continue
        yield from _jobs(name, item, asked)
        for process in item["gpu"]:
            yield from _on_gpu(name, process, item)
        yield from _segments(name, item["shm"], told.get("shm") or {})


def _jobs(name: str, item: Facts, asked: Asked) -> Iterator[Found]:
    for job in item["jobs"]:
        lost = job["state"] == "lost"
        what = f"{job['job']} of run {job['run_id']} is {job['state']}"
        told = "its supervisor is dead; what it started may live on" if lost else "it is at work"
        severity = Severity.WARN if lost else Severity.NOTE
        if not lost and asked.device == "gpu":
            severity = Severity.BLOCK
        yield Found(
            Check.PROCESSES,
            severity,
            name,
            "no job of another run",
            f"{what}: {told}",
            f"swiftops stop {job['run_id']}" + (", or --fix" if lost else ""),
            Fix.STOP_JOB if lost else None,
            (job["run_id"], job["job"]) if lost else (),
        )


def _on_gpu(name: str, process: dict[str, Any], item: Facts) -> Iterator[Found]:
    pid, held = str(process["pid"]), int(process["memory_bytes"])
    if item["pids_are_the_machines"] and pid in item["marked"]:
        return  # a job of ours, told of above
    who = process.get("user") or "somebody who cannot be seen from here"
    doing = process.get("command") or process["program"]
    yield Found(
        Check.PROCESSES,
        Severity.BLOCK if held >= FOREIGN_BYTES else Severity.WARN,
        name,
        "GPUs that nobody else uses",
        f"process {pid} of {who} holds {size(held)} of {process['gpu']}: {doing}",
        f"ask whose it is (it is never ended by us): ps -fp {pid}, on the machine itself",
    )


def _segments(name: str, left: Facts, shm: Facts) -> Iterator[Found]:
    total = int(shm.get("size") or 0)
    if not left["count"] or (total and left["bytes"] < total // 20):
        return
    severity = Severity.WARN if total and left["bytes"] > total // 4 else Severity.NOTE
    yield Found(
        Check.PROCESSES,
        severity,
        name,
        "no shared memory that nobody uses",
        f"{left['count']} files in /dev/shm, {size(left['bytes'])}: {listed(left['names'], 3)}",
        "fuser -v them; those that nobody uses may be removed: rm",
    )
