"""What is inside of nodes, settled three ways on the same container nodes: first run, and again.

- ours: the playbook ``settings``, one execution a node.
- tasks: the same end state by ordinary modules, a task each (``provision_tasks.yml``).
- pyinfra: the same end state as a pyinfra deploy (``provision_pyinfra.py``), in a venv of its own.

Nodes are new before every first run. All three look at content, mode and owner of every file, at
``sshd -T`` and at the port, each time; connections are kept from the first run to the second, where
the program can. At the end of each run the nodes must be the same, file for file. The proof of all
pairs is left out: the other two have none.

REPEATS (5), SIZES (4,8,16) and TASKS_SIZES (the largest: task by task takes minutes) are taken from
the environment. Needs root, Docker and debootstrap.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

from bench.container_nodes import Nodes, container_nodes
from pyswiftops.settings import mesh, mirrors, pins, sshd

HERE = Path(__file__).resolve().parent
REPEATS = int(os.environ.get("REPEATS", "5"))
SIZES = sorted(int(size) for size in os.environ.get("SIZES", "4,8,16").split(","))
TASKS_SIZES = [int(size) for size in os.environ.get("TASKS_SIZES", str(SIZES[-1])).split(",")]
INDEX = "https://mirror.example/simple"
PROGRAMS = Path(sys.executable).parent
PYINFRA = "pyinfra>=3,<4"
# Names, modes, owners and content of all that is settled; not of what a design keeps for itself,
# nor of what nodes train over, which only ours decides (and is charged for).
LOOK = (
    "cd / && for f in $(find etc/swiftops etc/pip.conf etc/profile.d/swiftops-pdsh.sh root/.ssh "
    "-not -name '*.before' -not -name 'ssh_host_*' -not -name nccl.env); do "
    "echo $(stat -c '%n %a %U:%G' $f) $(test ! -f $f || sha256sum < $f | cut -d' ' -f1); done"
)


def timed(argv: list[str], nodes: Nodes, where: Path) -> float:
    """Seconds of a program that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env=nodes.environment(), cwd=where
    )
    took = time.perf_counter() - begin
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return took


def ours(nodes: Nodes, _: Path) -> float:
    """The playbook of the collection."""
    words = ["pyswiftops.fleet.settings", "-i", str(nodes.inventory), "-e", "settings_prove=never"]
    words += ["-e", f"pip_mirror_index_url={INDEX}"]
    return timed([str(PROGRAMS / "ansible-playbook"), *words], nodes, nodes.folder)


def tasks(nodes: Nodes, files: Path) -> float:
    """Ordinary modules, a task each."""
    words = [str(HERE / "provision_tasks.yml"), "-i", str(nodes.inventory), "-e", f"files={files}"]
    return timed([str(PROGRAMS / "ansible-playbook"), *words], nodes, nodes.folder)


def pyinfra(nodes: Nodes, files: Path) -> float:
    """A pyinfra deploy."""
    program = str(pyinfra_program())
    words = [str(files / "inventory.py"), str(HERE / "provision_pyinfra.py"), "-y"]
    return timed([program, *words, "--data", f"files={files}"], nodes, nodes.folder)


def pyinfra_program() -> Path:
    """Its program, installed apart where it is not."""
    folder = HERE.parent / "build" / "pyinfra"
    program = folder / "bin" / "pyinfra"
    if not program.exists():
        venv.create(folder, with_pip=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PYINFRA]
        subprocess.run(install, check=True)
    return program


def files_for(nodes: Nodes) -> Path:
    """What the other two copy: rendered beforehand, which they are not charged for."""
    folder = nodes.folder / "files"
    folder.mkdir(exist_ok=True)
    variables = nodes.fleet.host_vars()
    peers = mesh.peers(variables, variables)
    more = {"PDSH_RCMD_TYPE": "ssh", "PDSH_GENDERS_FILE": "/etc/swiftops/genders"}
    settings = {
        "port": 2333,
        "listen": [],
        "folder": "/etc/swiftops",
        "password_login": False,
        "passwords": {},
        "pam": False,
        "environment": {**more, "WCOLL": "/etc/swiftops/nodes"},
    }
    texts = {
        "sshd_config": sshd.sshd_config(settings),
        "authorized_keys": "".join(f"{key}\n" for key in pins.public_keys(nodes.state)),
        "mesh_key": (nodes.state / pins.KEY).read_text(encoding="utf-8"),
        "known_hosts": (nodes.state / pins.KNOWN_HOSTS).read_text(encoding="utf-8"),
        "ssh_config": mesh.ssh_config(peers, "/etc/swiftops/mesh_key", "/etc/swiftops/known_hosts"),
        "genders": mesh.genders(peers),
        "nodes": mesh.wcoll(peers),
        "hostfile": mesh.hostfile(peers),
        "pip.conf": mirrors.pip_conf(INDEX, [], []),
        "profile.sh": "# Made by pyswiftops; changes are lost.\nexport PDSH_RCMD_TYPE=ssh "
        "PDSH_GENDERS_FILE=/etc/swiftops/genders WCOLL=/etc/swiftops/nodes\n",
        "effective.json": json.dumps(sshd.sshd_effective(settings)),
    }
    pinned = pins.read(nodes.state)
    hosts = [(peer["address"], peer["port"], peer["alias"], peer["name"]) for peer in peers]
    texts["known"] = "".join(f"[{at}]:{port} {pinned[alias]}\n" for at, port, alias, _ in hosts)
    data = {
        "ssh_port": 2333,
        "ssh_user": "root",
        "ssh_key": str(nodes.state / pins.KEY),
        "ssh_known_hosts_file": str(folder / "known"),
        "ssh_strict_host_key_checking": "yes",
    }
    entries = [(name, {**data, "ssh_hostname": at}) for at, _, _, name in hosts]
    texts["inventory.py"] = f"nodes = {entries!r}\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def look_alike(nodes: Nodes, files: Path, design: str) -> None:
    """All nodes have exactly what was asked for: name, mode, owner and content."""
    places = {"pip.conf": "etc/pip.conf", "profile.sh": "etc/profile.d/swiftops-pdsh.sh"}
    private = ("mesh_key", "sshd_config")
    wanted = {"etc/swiftops": "755 root:root", "root/.ssh": "700 root:root"}
    for path in files.iterdir():
        if path.name not in {"known", "inventory.py", "effective.json"}:
            text = hashlib.sha256(path.read_bytes()).hexdigest()
            mode = "600" if path.name in private else "644"
            place = places.get(path.name, f"etc/swiftops/{path.name}")
            wanted[place] = f"{mode} root:root {text}"
    line = hashlib.sha256(b"Include /etc/swiftops/ssh_config\n").hexdigest()
    wanted["root/.ssh/config"] = f"600 root:root {line}"
    for name in nodes.names:
        lines = [line.split(" ", 1) for line in nodes.inside(name, "sh", "-c", LOOK).splitlines()]
        found = {path: rest.strip() for path, rest in lines}
        assert found == wanted, (
            f"{design} leaves {name} with {set(found.items()) ^ set(wanted.items())}"
        )


DESIGNS: dict[str, Callable[[Nodes, Path], float]] = {
    "ours": ours,
    "pyinfra": pyinfra,
    "tasks": tasks,
}


def measure() -> dict[tuple[str, int, str], list[float]]:
    """Seconds by design, number of nodes, and first or again."""
    took: dict[tuple[str, int, str], list[float]] = {}
    for size in SIZES:
        names = [name for name in DESIGNS if name != "tasks" or size in TASKS_SIZES]
        with container_nodes(size, "bench-provision", "172.30.44.0/24") as nodes:
            for repeat in range(REPEATS):
                turn = repeat % len(names)
                for name in names[turn:] + names[:turn]:
                    nodes.fresh()
                    files = files_for(nodes)
                    for which in ("first", "again"):
                        seconds = DESIGNS[name](nodes, files)
                        took.setdefault((name, size, which), []).append(seconds)
                        look_alike(nodes, files, name)
                        print(f"{size:>3} {name:<8}{which:<6}{seconds:8.2f}", flush=True)
    return took


def main() -> None:
    """Measure and print the table."""
    pyinfra_program()
    took = measure()
    middle = {key: statistics.median(values) for key, values in took.items()}
    print(f"\n{'design':<10}{'nodes':>6}{'first, s':>12}{'again, s':>12}{'spread again':>16}")
    for name in DESIGNS:
        for size in SIZES:
            if (name, size, "first") in middle:
                again = took[name, size, "again"]
                spread = f"{min(again):.2f}-{max(again):.2f}"
                first, second = middle[name, size, "first"], middle[name, size, "again"]
                print(f"{name:<10}{size:>6}{first:>12.2f}{second:>12.2f}{spread:>16}")
    few, most, tasked = SIZES[0], SIZES[-1], max(TASKS_SIZES)
    rerun = middle["ours", most, "again"]
    print(
        f"RESULT rerun_{most}_s={rerun:.2f} "
        f"rerun_vs_pyinfra={rerun / middle['pyinfra', most, 'again']:.3f} "
        f"first_vs_tasks={middle['tasks', tasked, 'first'] / middle['ours', tasked, 'first']:.1f} "
        f"growth_{few}_{most}={rerun / middle['ours', few, 'again']:.2f} "
        f"repeats={REPEATS} cores={os.cpu_count()} python={sys.version.split()[0]}"
    )


if __name__ == "__main__":
    main()
