# ruff: noqa: S104, S108 -- paths and addresses here are what nodes told
"""The table of a fleet's faults: what is put into facts, and what must be said of it."""

from __future__ import annotations

from pyswiftops.content import module_util
from pyswiftops.specs.preflight import Check

from .healthy import GIB, fleet, run
from .host_faults import HOST_FAULTS
from .putting import (
    BLOCK,
    CONTAINERS,
    ENGINE,
    NOTE,
    OFF,
    ON,
    ONE,
    PROXY,
    SHARED,
    TWO,
    WARN,
    Fault,
    at,
    gone,
    input_of,
    job,
    kernel,
    log,
    lost_port,
    on_gpu,
    other_driver,
    put_all,
    recorded,
)

FAULTS: dict[str, Fault] = {
    "silent-node": Fault(Check.NODES, BLOCK, ("an answer",), gone),
    "docker-shm": Fault(
        Check.SHM,
        BLOCK,
        ("67.1 MB", "--shm-size"),
        at("shm", {"size": 64 << 20, "free": 64 << 20, "error": ""}),
        fleet=CONTAINERS,
    ),
    "small-shm": Fault(
        Check.SHM,
        WARN,
        ("remount,size=",),
        at("shm", {"size": 4 * GIB, "free": 4 * GIB, "error": ""}),
    ),
    "full-shm": Fault(
        Check.SHM,
        BLOCK,
        ("free of",),
        at("shm", {"size": 64 * GIB, "free": GIB // 10, "error": ""}),
    ),
    "full-disk": Fault(Check.DISK, BLOCK, ("du -xsh",), at("disks/root/free", GIB // 2)),
    "full-tmp": Fault(Check.DISK, BLOCK, ("/tmp",), at("disks/tmp/free", 1 << 20)),
    "no-inodes": Fault(Check.DISK, BLOCK, ("inodes", "df -i"), at("disks/root/inodes_free", 12)),
    "read-only-root": Fault(
        Check.DISK, BLOCK, ("cannot be written",), at("disks/root/writable", OFF)
    ),
    "root-in-container": Fault(
        Check.DISK,
        WARN,
        ("outlives the container",),
        at("disks/root/mount/type", "overlay"),
        fleet=CONTAINERS,
    ),
    "root-in-memory": Fault(Check.DISK, WARN, ("in memory",), at("disks/root/mount/type", "tmpfs")),
    "checkpoints-do-not-fit": Fault(
        Check.DISK,
        BLOCK,
        ("10 checkpoints", "full at save", "output.keep"),
        at(
            "disks/root",
            {
                "path": "/data",
                "place": "/data",
                "filesystem": "m:2",
                "free": 300 * GIB,
                "total": 400 * GIB,
                "inodes_free": None,
                "writable": True,
                "error": "",
                "mount": {"point": "/data", "type": "xfs", "source": "/dev/sda"},
            },
        ),
        spec=run(method={"tuner": "full"}),
    ),
    "no-memory": Fault(Check.MEMORY, WARN, ("available",), at("memory/available", 1 << 20)),
    "memory-limit": Fault(Check.MEMORY, WARN, ("--memory",), at("memory/limit", 8 * GIB)),
    "low-memlock": Fault(
        Check.LIMITS,
        BLOCK,
        ("mlx5_0", "limits.d"),
        at("limits/limits/memlock", [65536, 65536]),
    ),
    "low-memlock-without-ib": Fault(
        Check.LIMITS,
        WARN,
        ("memlock=-1", "container.ulimits"),
        lambda facts: facts[TWO]["limits"].update(
            infiniband=[], limits={**facts[TWO]["limits"]["limits"], "memlock": [65536, 65536]}
        ),
        fleet=CONTAINERS,
    ),
    "low-nofile": Fault(
        Check.LIMITS, BLOCK, ("nofile", "256"), at("limits/limits/nofile", [256, 1048576])
    ),
    "default-nofile": Fault(
        Check.LIMITS, WARN, ("nofile", "1024"), at("limits/limits/nofile", [1024, 1048576])
    ),
    "low-nproc": Fault(Check.LIMITS, BLOCK, ("nproc",), at("limits/limits/nproc", [100, 100])),
    "pids-limit": Fault(Check.LIMITS, BLOCK, ("--pids-limit",), at("limits/pids_max", 100)),
    "clock-behind": Fault(
        Check.CLOCK,
        WARN,
        ("3.00 s behind node-1", "chrony"),
        at("meeting/peers/node-2/offset", [-3.0, 0.001], ONE),
    ),
    "clock-hours-off": Fault(
        Check.CLOCK,
        BLOCK,
        ("ahead of node-1",),
        at("meeting/peers/node-2/offset", [7200.0, 0.001], ONE),
    ),
    "clock-of-the-controller": Fault(
        Check.CLOCK,
        WARN,
        ("at least 95 s behind it",),
        at("clock", {"began": 0.0, "ended": 5.0, "asked": [100.0, 110.0]}),
    ),
    "no-driver": Fault(Check.GPUS, BLOCK, ("no nvidia-smi",), at("gpus", {"program": ""})),
    "driver-mismatch": Fault(
        Check.GPUS,
        BLOCK,
        ("version mismatch", "apt-mark hold"),
        at(
            "gpus", {"program": "nvidia-smi", "error": recorded("mismatch.txt").strip(), "gpus": []}
        ),
    ),
    "gpus-lost-by-daemon-reload": Fault(
        Check.GPUS,
        BLOCK,
        ("daemon-reload", "docker restart"),
        at(
            "gpus",
            {"program": "s", "error": "Failed to initialize NVML: Unknown Error", "gpus": []},
        ),
        fleet=CONTAINERS,
    ),
    "gpu-missing": Fault(
        Check.GPUS, BLOCK, ("8 GPUs", "7"), lambda facts: facts[TWO]["gpus"]["gpus"].pop()
    ),
    "mig-on": Fault(Check.GPUS, BLOCK, ("MIG", "-mig 0"), at("gpus/gpus/1/mig", ON)),
    "kernel-module-stayed": Fault(
        Check.GPUS,
        BLOCK,
        ("520.56.06", "restart the machine"),
        at("gpus/kernel_module", "520.56.06"),
    ),
    "two-kinds-in-a-node": Fault(
        Check.GPUS, WARN, ("one kind",), at("gpus/gpus/1/name", "NVIDIA A100-SXM4-80GB")
    ),
    "another-driver": Fault(Check.GPUS, WARN, ("the same driver", "535.129.03"), other_driver),
    "another-cuda": Fault(
        Check.GPUS,
        WARN,
        ("CUDA of the driver", "12.2"),
        at("gpus/cuda", module_util("preflight.gpus").parse_cuda(recorded("banner.txt"))),
    ),
    "another-gpu-model": Fault(
        Check.GPUS,
        WARN,
        ("the same GPU model", "H200"),
        lambda facts: [one.update(name="NVIDIA H200") for one in facts[TWO]["gpus"]["gpus"]],
    ),
    "ecc-errors": Fault(
        Check.GPU_ERRORS, WARN, ("uncorrected", "--gpu-reset"), at("gpus/gpus/0/uncorrected", 3)
    ),
    "row-waits-for-a-reset": Fault(
        Check.GPU_ERRORS, BLOCK, ("remapped",), at("gpus/gpus/0/pending", ON)
    ),
    "row-remapping-failed": Fault(
        Check.GPU_ERRORS, BLOCK, ("replaced",), at("gpus/gpus/0/failure", ON)
    ),
    "xid-79": Fault(
        Check.GPU_ERRORS, BLOCK, ("Xid 79", "fallen off the bus"), log("xid-off-the-bus.txt")
    ),
    "xid-63": Fault(
        Check.GPU_ERRORS, WARN, ("Xid 63", "Row Remapper"), log("xid-row-remapper.txt")
    ),
    "xid-of-a-program": Fault(
        Check.GPU_ERRORS, NOTE, ("Xid 45", "caused by previous Xid 145"), log("xid-nvlink.txt")
    ),
    "kernel-log-closed": Fault(
        Check.GPU_ERRORS,
        NOTE,
        ("dmesg_restrict",),
        at("kernel_log/error", "dmesg: read kernel buffer failed: Operation not permitted"),
    ),
    "disk-went-read-only": Fault(
        Check.KERNEL,
        BLOCK,
        ("read-only",),
        kernel("[ 100.5] EXT4-fs (sda1): Remounting filesystem read-only\n"),
    ),
    "oom-killed": Fault(
        Check.KERNEL,
        NOTE,
        ("Killed process 4711",),
        kernel("[ 100.5] Out of memory: Killed process 4711 (python) total-vm:1kB\n"),
    ),
    "our-orphans": Fault(
        Check.PROCESSES, WARN, ("supervisor is dead", "--fix"), at("processes/jobs", job("lost"))
    ),
    "another-run-at-work": Fault(
        Check.PROCESSES, BLOCK, ("swiftops stop old",), at("processes/jobs", job("running"))
    ),
    "foreign-process-on-gpu": Fault(
        Check.PROCESSES,
        BLOCK,
        ("alice", "never ended by us"),
        at("processes/gpu", [on_gpu(99, 40, user="alice", command="python other.py")]),
    ),
    "small-foreign-process-on-gpu": Fault(
        Check.PROCESSES, WARN, ("GPU-3",), at("processes/gpu", [on_gpu(99, 0.3)])
    ),
    "shm-left-behind": Fault(
        Check.PROCESSES,
        WARN,
        ("/dev/shm/nccl-1", "fuser"),
        at("processes/shm", {"count": 1, "bytes": 90 * GIB, "names": ["/dev/shm/nccl-1"]}),
    ),
    "port-taken": Fault(
        Check.PORTS,
        BLOCK,
        ("port 8000", "old_server.py", "ss -ltnp"),
        at(
            "ports",
            [{"port": 8000, "address": "0.0.0.0", "pid": 7, "command": "old_server.py"}],
            ONE,
        ),
        node=ONE,
        spec=run(deploy={"port": 8000}),
    ),
    "firewall-drops": Fault(
        Check.REACH,
        BLOCK,
        ("node-1, node-3 cannot reach 10.0.0.2 port 40001", "a firewall drops it"),
        lost_port("no answer"),
    ),
    "firewall-rejects": Fault(
        Check.REACH, BLOCK, ("a firewall rejects it",), lost_port("Connection refused")
    ),
    "no-route": Fault(Check.REACH, BLOCK, ("No route to host",), lost_port("No route to host")),
    "wrong-training-address": Fault(
        Check.REACH,
        BLOCK,
        ("an address of this node", "ip -br address"),
        at("meeting/listening/20001", "[Errno 99] Cannot assign requested address"),
    ),
    "peer-name-unknown": Fault(
        Check.NAMES,
        BLOCK,
        ("an address of gpu-1", "getent hosts gpu-1"),
        at("names/peers", {"gpu-1": {"addresses": [], "error": "Name or service not known"}}),
    ),
    "peer-name-is-loopback": Fault(
        Check.NAMES,
        BLOCK,
        ("127.0.1.1", "wait for themselves"),
        at("names/peers", {"gpu-1": {"addresses": ["127.0.1.1"], "error": ""}}),
    ),
    "own-name-is-127.0.1.1": Fault(
        Check.NAMES,
        BLOCK,
        ("127.0.1.1", "Gloo", "/etc/hosts"),
        at("names/own", {"addresses": ["127.0.1.1"], "error": ""}),
    ),
    "own-name-with-an-interface-set": Fault(
        Check.NAMES,
        WARN,
        ("Gloo",),
        at("names/own", {"addresses": ["127.0.1.1"], "error": ""}),
        fleet=fleet(training_interface="eth0"),
    ),
    "own-name-with-an-interface-chosen": Fault(
        Check.NAMES,
        WARN,
        ("Gloo",),
        put_all(
            at("names/own", {"addresses": ["127.0.1.1"], "error": ""}),
            at("names/interface", "eth0"),
        ),
    ),
    "localhost-elsewhere": Fault(
        Check.NAMES,
        BLOCK,
        ("localhost",),
        at("names/localhost", {"addresses": ["192.0.2.1"], "error": ""}),
    ),
    "name-differs": Fault(
        Check.NAMES,
        BLOCK,
        ("one address everywhere", "10.9.9.9 on node-2"),
        lambda facts: [
            told["names"].update(
                peers={
                    "gpu-1": {"addresses": ["10.9.9.9" if n == TWO else "10.0.0.1"], "error": ""}
                }
            )
            for n, told in facts.items()
        ],
        node="",
    ),
    "proxy-of-jobs": Fault(
        Check.PROXY, BLOCK, ("10.0.0.1", "env: of the fleet file"), at("names/jobs", PROXY)
    ),
    "proxy-of-the-login": Fault(
        Check.PROXY, WARN, ("no_proxy", "http://proxy:3128"), at("names/login", PROXY)
    ),
    "package-missing": Fault(
        Check.PACKAGES,
        BLOCK,
        ("not installed",),
        lambda facts: facts[TWO]["packages"]["packages"]["peft"].update(version=None, module=None),
    ),
    "wrong-version": Fault(
        Check.PACKAGES,
        BLOCK,
        ("ms-swift", "1.0"),
        at("packages/packages/ms-swift/version", "1.0"),
    ),
    "import-shadowed": Fault(
        Check.PACKAGES,
        BLOCK,
        ("shadows", "PYTHONPATH"),
        at("packages/packages/ms-swift/module", "/data/old/swift/__init__.py"),
    ),
    "versions-differ": Fault(
        Check.PACKAGES,
        BLOCK,
        ("the same version of msgspec", "0.20"),
        lambda facts: [
            told["packages"]["packages"].update(
                msgspec={
                    "version": "0.20" if n == TWO else "0.19",
                    "root": "/l",
                    "module": "/l/m.py",
                    "editable": False,
                }
            )
            for n, told in facts.items()
        ],
    ),
    "python-does-not-start": Fault(
        Check.PACKAGES,
        BLOCK,
        ("a Python that starts",),
        at("packages", {"error": "FileNotFoundError: /opt/swift/bin/python"}),
    ),
    "unattended-upgrades": Fault(
        Check.UPGRADES,
        WARN,
        ("replace the driver", "--fix --only upgrades"),
        at("services/unattended_upgrades/on", ON),
    ),
    "fabric-manager-apart": Fault(
        Check.ENGINE,
        BLOCK,
        ("530.30.02", "nvidia-fabricmanager-550"),
        at("services/fabric_manager/version", "530.30.02"),
    ),
    "cgroup-driver-systemd": Fault(
        Check.ENGINE, WARN, ("create-dev-char-symlinks",), at("services/engine", ENGINE)
    ),
    "no-cgroups": Fault(
        Check.ENGINE,
        WARN,
        ("no-cgroups",),
        at("services/engine", {**ENGINE, "char_links": True, "no_cgroups": True}),
    ),
    **HOST_FAULTS,
    "declared-shared-is-not": Fault(
        Check.SHARED,
        BLOCK,
        ("/shared", "node-1", "findmnt"),
        at("meeting/peers/node-1/shared", {"/shared": False}),
        fleet=SHARED,
    ),
    "shared-folder-missing": Fault(
        Check.SHARED,
        BLOCK,
        ("no such folder",),
        at("meeting/shared_failed", {"/shared": "no such folder"}),
        fleet=SHARED,
    ),
    "shared-but-not-declared": Fault(
        Check.SHARED,
        WARN,
        ("shared_paths", "node-1"),
        at("meeting/peers/node-2/sees_root", ON, ONE),
    ),
    "other-rows-on-a-node": Fault(
        Check.INPUTS,
        BLOCK,
        ("/data/rows.jsonl as node-1 has it: 10 rows", "another: 9 rows", "at: first_node"),
        input_of("/data/rows.jsonl", {"bytes": 3600, "rows": 9, "blake2b": "f" * 16}),
        spec=run(),
    ),
    "other-model-of-the-same-size": Fault(
        Check.INPUTS,
        WARN,
        ("/models/m as node-1 has it", "blake2b ffff", "rsync -a --delete node-1:/models/m"),
        input_of("/models/m", {"bytes": 4000, "rows": None, "blake2b": "f" * 16}),
        spec=run(),
    ),
    "no-rows-on-a-node": Fault(
        Check.INPUTS,
        BLOCK,
        ("/data/rows.jsonl, which the run names", "found none"),
        input_of("/data/rows.jsonl", {"error": "expected a file or a folder, found none"}),
        spec=run(),
    ),
    "packing-with-a-cache-each": Fault(
        Check.CACHE,
        BLOCK,
        ("MODELSCOPE_CACHE", "line 3.7"),
        lambda _facts: None,
        node="",
        fleet=fleet(line="3.6"),
        spec=run(extra_args={"train": {"packing": True}}),
    ),
    "cache-of-the-login": Fault(
        Check.CACHE,
        NOTE,
        ("/root/.cache/modelscope", "started by hand"),
        at("machine/variables", {"MODELSCOPE_CACHE": "/root/.cache/modelscope"}),
    ),
}
