"""A checkpoint over four container nodes, brought to the first one: three ways, and again.

- scp: ``scp -r`` of the iteration from one node after the other, as one does by hand.
- rsync: rsync from all nodes at once over ssh with AES-GCM, nothing proven.
- ours: ``pyswiftops.checkpoints.receive`` by TLS (1.3, AES-GCM) beside ssh, every chunk proven by
  the hash of its source: whole, without optimizer, a second time, and after a cut at about half.
- ssh: ours, whole, through ssh with AES-GCM, as where there is no way beside it.
- trusted: ours, whole, over plain TCP, as where the fleet declares its network trusted.

All start on the first node, in the same container, with the same keys; sources are in the page
cache, as after a save; the target is new each time. Without a limit, then with each node's link
held at LIMIT megabits a second (tc tbf on the host's end of its cable). ``stage`` is the whole
playbook of the stage gather when there is nothing left to move, seen from the controller.

Numbers of that checkpoint are random; of each rank a seventh is weights. Then the same on two
nodes with a checkpoint that Megatron wrote (bench/real_checkpoint.py).

MEBIBYTES (512, of each node), REPEATS (3), LIMIT (1000; 0 leaves it out) and REAL (1; 0 leaves it
out) are taken from the environment. Needs root, Docker and debootstrap.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import real_checkpoint
from bench.checkpoints import MIB, Made, make
from bench.container_nodes import Nodes, container_nodes, run
from pyswiftops.content import collections_path
from pyswiftops.planner.gathering import GatherPlan, Options, Target, choose, plan_gather

CHECKOUT = Path(__file__).resolve().parents[1]
MEBIBYTES = int(os.environ.get("MEBIBYTES", "512"))
REPEATS = int(os.environ.get("REPEATS", "3"))
LIMIT = int(os.environ.get("LIMIT", "1000"))
REAL = os.environ.get("REAL", "1") != "0"
TARGET = Path("/data/target")
GCM = "ssh -c aes128-gcm@openssh.com"
WAYS = {
    "tls": {"direct": True, "trusted": False},
    "tcp": {"direct": True, "trusted": True},
    "ssh": {"direct": False, "trusted": False},
}
RECEIVE = "exec python3 -m pyswiftops.checkpoints.receive /data/request.json"


class Lab:
    """Nodes with a checkpoint, and what brings it to the first one.

    Args:
        nodes: The containers; ``data`` is mounted in each as ``/data``.
        data: The folder of this machine.
        made: The checkpoint: each node's part below ``data``.
    """

    def __init__(self, nodes: Nodes, data: Path, made: Made) -> None:
        self.nodes, self.data, self.made = nodes, data, made
        self.names = nodes.names[: len(made.folders)]
        self.dest = data / TARGET.name

    def there(self, path: Path) -> Path:
        """A path below ``data`` as nodes see it."""
        return Path("/data") / path.relative_to(self.data)

    def on_first(self, script: str) -> float:
        """Seconds of a shell script on the first node."""
        begin = time.perf_counter()
        self.nodes.inside(self.names[0], "sh", "-c", script)
        return time.perf_counter() - begin

    def clean(self) -> None:
        """No target, and what was written is on the disk, so that no run pays for another's."""
        for folder in self.data.glob(f"*{TARGET.name}*"):
            shutil.rmtree(folder)
        os.sync()

    def plan(self, *, weights_only: bool = False, way: str = "tls") -> GatherPlan:
        """What the controller asks for."""
        told = ledger(self.made, self.names, self.there)
        reach: dict[str, dict] = {
            name: {"remote": {"host": name}, "python": "python3", **WAYS[way]}
            for name in self.names
        }
        reach[self.names[0]]["remote"] = None
        options = Options(weights_only=weights_only)
        target = Target(self.names[0], str(TARGET))
        return plan_gather(choose(told, "", time.time()).copies, reach, target, options)

    def scp(self) -> float:
        """One node after the other; the first node's own by a local copy."""
        parts = [self.there(folder) for folder in self.made.folders]
        others = [
            f"scp -q -r {name}:{part}/{self.made.iter_dir} {TARGET}/"
            for name, part in zip(self.names[1:], parts[1:], strict=True)
        ]
        return self.on_first(" && ".join([f"cp -r {parts[0]} {TARGET}", *others]))

    def rsync(self) -> float:
        """All nodes at once."""
        parts = [self.there(folder) for folder in self.made.folders]
        others = [
            f"rsync -a -e '{GCM}' {name}:{part}/ {TARGET}/ &"
            for name, part in zip(self.names[1:], parts[1:], strict=True)
        ]
        first = f"mkdir {TARGET}; cp -r {parts[0]}/. {TARGET}/ &"
        return self.on_first(" ".join([first, *others, "wait"]))

    def local(self) -> float:
        """A copy within the machine, which crosses no network: the floor."""
        folders = [self.there(folder) for folder in self.made.folders]
        parts = " ".join(f"{folder}/{self.made.iter_dir}" for folder in folders)
        return self.on_first(f"mkdir {TARGET}; for p in {parts}; do cp -r $p {TARGET}/; done")

    def ours(self, *, weights_only: bool = False, way: str = "tls") -> float:
        """What the stage's job runs."""
        self.ask(weights_only=weights_only, way=way)
        seconds = self.on_first(RECEIVE)
        assert set(self.answer()["transports"].values()) <= {"local", way}
        return seconds

    def ask(self, *, weights_only: bool = False, way: str = "tls") -> None:
        """Write the request."""
        request = dict(self.plan(weights_only=weights_only, way=way).request)
        (self.data / "request.json").write_text(json.dumps(request), encoding="utf-8")

    def answer(self) -> dict:
        """What the last gather said."""
        return json.loads((self.data / "request.answer").read_text(encoding="utf-8"))

    def moved(self) -> int:
        """Bytes that the last gather moved."""
        return int(self.answer()["moved"])

    def cut(self) -> tuple[float, float]:
        """A gather that is ended at about half, then again: the fraction of all, and seconds."""
        self.ask()
        total = self.plan().total
        name = f"swiftops-{self.nodes.fleet.name}-{self.names[0]}"
        job = subprocess.Popen(
            ["docker", "exec", name, "sh", "-c", f"echo $$ > /data/pid; {RECEIVE}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        staging = self.dest.with_name(f".{TARGET.name}.gather")
        while job.poll() is None:
            here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
            if here > total / 2:
                break
            time.sleep(0.005)
        assert job.poll() is None, "it had ended before it was cut"
        self.nodes.inside(self.names[0], "sh", "-c", "kill -9 $(cat /data/pid)")
        job.wait()
        here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
        seconds = self.on_first(RECEIVE)
        assert self.moved() <= total - here + len(self.names) * MIB, "more than was missing"
        return self.moved() / total, seconds

    def equal(self) -> None:
        """The target holds what the sources hold, byte for byte."""
        for folder in self.made.folders:
            for path in (folder / self.made.iter_dir).iterdir():
                other = self.dest / path.relative_to(folder)
                assert path.stat().st_size == other.stat().st_size, other
                done = subprocess.run(["cmp", "-s", path, other], check=False)
                assert done.returncode == 0, other


def ledger(made: Made, names: list[str], there: Callable[[Path], Path]) -> dict[str, dict]:
    """What each node tells of its part, by the code that the module runs there."""
    sys.path.insert(0, str(collections_path()))
    from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import (  # noqa: PLC0415
        layout,
    )

    told = {}
    for name, folder in zip(names, made.folders, strict=True):
        answer = layout.scan([folder], settle=0)
        for item in answer["checkpoints"]:
            for key in ("path", "base", "root", "iter_dir"):
                item[key] = str(there(Path(item[key])))
        told[name] = answer
    return told


@contextmanager
def limited(nodes: Nodes, megabits: int) -> Iterator[None]:
    """Hold what reaches each node at a rate, by its cable's end on this machine."""
    ends = []
    for name in nodes.names:
        index = nodes.inside(name, "cat", "/sys/class/net/eth0/iflink")
        (end,) = [
            path.parent.name
            for path in Path("/sys/class/net").glob("veth*/ifindex")
            if path.read_text(encoding="ascii").strip() == index
        ]
        ends.append(end)
    for end in ends:
        rate = [f"{megabits}mbit", "burst", "1mb", "latency", "50ms"]
        run("tc", "qdisc", "add", "dev", end, "root", "tbf", "rate", *rate)
    try:
        yield
    finally:
        for end in ends:
            run("tc", "qdisc", "del", "dev", end, "root")


def measure(lab: Lab, label: str) -> dict[str, float]:
    """All ways in turn, REPEATS times; medians in seconds."""
    took: dict[str, list[float]] = {}

    def note(way: str, seconds: float) -> None:
        took.setdefault(way, []).append(seconds)

    for _ in range(REPEATS):
        for way in ("scp", "rsync", "local"):
            lab.clean()
            note(way, getattr(lab, way)())
        lab.clean()
        note("whole", lab.ours())
        lab.equal()
        note("second", lab.ours())
        assert lab.moved() == 0
        lab.clean()
        note("ssh", lab.ours(way="ssh"))
        lab.clean()
        note("trusted", lab.ours(way="tcp"))
        lab.equal()
        lab.clean()
        note("weights", lab.ours(weights_only=True))
        lab.clean()
        fraction, seconds = lab.cut()
        lab.equal()
        note("resumed", seconds)
        note("fraction", fraction)
    lab.clean()
    medians = {way: statistics.median(values) for way, values in took.items()}
    print(f"\n{label}: {lab.made.bytes / 1e9:.2f} GB of shards on {len(lab.names)} nodes")
    print(f"{'way':<10}{'median s':>10}{'of scp':>8}   all")
    for way, values in took.items():
        if way != "fraction":
            every = " ".join(f"{value:.2f}" for value in values)
            ratio = medians[way] / medians["scp"]
            print(f"{way:<10}{medians[way]:>10.2f}{ratio:>8.2f}   {every}")
    print(f"moved again after a cut at about half, of all: {medians['fraction']:.3f}")
    return medians


def stage_again(nodes: Nodes, data: Path, made: Made) -> float:
    """Seconds of the role, by ansible-playbook on the controller, when all is there already."""
    play = [
        {
            "name": "Gather",
            "hosts": "swiftops_nodes",
            "gather_facts": False,
            "vars": {
                "swiftops_run_id": "bench",
                "gather_from": "/data/{{ inventory_hostname }}",
                "gather_dest": str(TARGET),
            },
            "roles": [{"role": "pyswiftops.fleet.gather"}],
        }
    ]
    file = nodes.folder / "gather.yml"
    file.write_text(json.dumps(play), encoding="utf-8")
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(nodes.inventory)]
    argv += ["-e", "swiftops_python=/usr/bin/python3"]
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        done = subprocess.run(
            [*argv, str(file)],
            check=False,
            capture_output=True,
            text=True,
            env=nodes.environment(),
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        times.append(time.perf_counter() - begin)
    assert (data / TARGET.name / made.iter_dir).is_dir()
    return statistics.median(times[1:])


def settle(nodes: Nodes) -> None:
    """Keys and names, so that nodes log in to one another; and this package in their Python."""
    for node in nodes.names:
        home = "/usr/local/lib/python3.11/dist-packages"
        nodes.inside(node, "sh", "-c", f"mkdir -p {home}; echo /checkout > {home}/checkout.pth")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("pyswiftops.fleet.settings", "-i", str(nodes.inventory)),
            *("-e", "settings_prove=never"),
        ],
        check=False,
        capture_output=True,
        text=True,
        env=nodes.environment(),
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def main() -> None:
    """Print tables and the result."""
    with tempfile.TemporaryDirectory(prefix="swiftops-gather-", dir="/tmp") as place:
        data = Path(place)
        volumes = [f"{data}:/data", f"{CHECKOUT}:/checkout:ro"]
        with container_nodes(4, "bench-gather", "172.30.98.0/24", volumes=volumes) as nodes:
            settle(nodes)
            made = make([data / name for name in nodes.names], MEBIBYTES)
            lab = Lab(nodes, data, made)
            free = measure(lab, "no limit")
            if LIMIT:
                with limited(nodes, LIMIT):
                    measure(lab, f"{LIMIT} Mbit/s to each node")
            stage = stage_again(nodes, data, made)
            print(f"\nthe role gather with nothing left to move, by ansible: {stage:.2f} s")
            real = ""
            if REAL:
                found = real_checkpoint.train(data / real_checkpoint.RUN_ID)
                told = measure(Lab(nodes, data, found), "no limit, written by Megatron")
                real = (
                    f" real_full_vs_scp={told['whole'] / told['scp']:.3f}"
                    f" real_weights_only_vs_scp={told['scp'] / told['weights']:.2f}"
                )
    print(
        f"\nRESULT full_vs_scp={free['whole'] / free['scp']:.3f} "
        f"weights_only_vs_scp={free['scp'] / free['weights']:.2f} "
        f"second_s={free['second']:.2f} resumed_fraction={free['fraction']:.3f} "
        f"stage_second_s={stage:.2f} full_vs_rsync={free['whole'] / free['rsync']:.3f} "
        f"trusted_vs_scp={free['trusted'] / free['scp']:.3f}{real}"
    )


if __name__ == "__main__":
    main()
