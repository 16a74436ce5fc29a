# ruff: noqa: S108 -- names of the nodes' own folders
"""Faults put into real nodes: containers with sshd, looked at by the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.container_nodes import Nodes, container_nodes, run  # noqa: E402 path above

pytestmark = pytest.mark.fleet
SWIFTOPS = str(Path(sys.executable).with_name("swiftops"))
ONE, TWO, THREE = "node-1", "node-2", "node-3"
HELD = ["--cap-add=NET_ADMIN", "--cap-add=SYSLOG"]
OPTIONS = {
    ONE: ["--shm-size=1g", *HELD],
    # A node with all that docker gives by itself, and less: 64 MB of shared memory, few files.
    TWO: [*HELD, "--ulimit=nofile=256:256", "--pids-limit=400", "--tmpfs=/full:size=1m"],
    THREE: ["--shm-size=1g", *HELD],
}
MORE = {
    "python": "/usr/bin/python3",
    "shared_paths": ["/shared", "/apart"],
    "preflight": {"accept": ["packages"]},  # the nodes have no ms-swift
}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("shared")
    volumes = [f"{folder}:/shared"]
    fleet = f"preflight-{os.getpid()}"
    subnet = "172.30.64.0/24"
    with container_nodes(3, fleet, subnet, volumes=volumes, options=OPTIONS, more=MORE) as made:
        for name in made.names:
            made.inside(name, "mkdir", "-p", "/apart", "/data/swiftops")
        yield made


def look(nodes: Nodes, *words: str, code: int = 1) -> dict[str, Any]:
    """What ``swiftops preflight --json`` says."""
    argv = [SWIFTOPS, "preflight", "-i", str(nodes.inventory), "--json", *words]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=nodes.folder)
    assert done.returncode == code, done.stdout[-6000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def first(nodes: Nodes) -> dict[str, Any]:
    """The first look, at all that the containers were made with."""
    return look(nodes)


def findings(report: dict[str, Any], check: str, node: str | None = None) -> list[dict[str, Any]]:
    return [
        item
        for item in report["findings"]
        if item["check"] == check and node in {None, item["node"]}
    ]


def said(report: dict[str, Any], check: str, node: str, severity: str = "block") -> str:
    """All that is said of a check on a node, of that severity."""
    found = [item for item in findings(report, check, node) if item["severity"] == severity]
    assert found, report["findings"]
    return "\n".join(f"{item['expected']}\n{item['found']}\n{item['remedy']}" for item in found)


@contextmanager
def put(nodes: Nodes, node: str, do: str, undo: str) -> Iterator[None]:
    """A fault in a node, taken away again."""
    nodes.inside(node, "sh", "-c", do)
    try:
        yield
    finally:
        nodes.inside(node, "sh", "-c", undo)


@contextmanager
def firewall(nodes: Nodes, node: str, *rule: str) -> Iterator[None]:
    """A rule of the machine's iptables in a node's own network."""
    pid = run("docker", "inspect", "-f", "{{.State.Pid}}", f"swiftops-{nodes.fleet.name}-{node}")
    enter = ["nsenter", "-t", pid, "-n", "iptables"]
    run(*enter, "-I", "INPUT", *rule)
    try:
        yield
    finally:
        run(*enter, "-D", "INPUT", *rule)


def test_real_all_nodes_meet_and_a_fleet_has_only_its_own_faults(first: dict[str, Any]) -> None:
    assert first["nodes"] == [ONE, TWO, THREE]
    assert findings(first, "reach") == findings(first, "clock") == []
    for told in first["facts"].values():
        for peer in told["meeting"]["peers"].values():
            assert set(peer["ports"].values()) == {""}
            assert abs(peer["offset"][0]) < 1
    known = {"packages", "disk", "shared"}  # no ms-swift, no mount, and /apart
    assert {item["check"] for item in first["findings"] if item["node"] == THREE} <= known


def test_real_shared_memory_of_docker(first: dict[str, Any]) -> None:
    assert "--shm-size" in said(first, "shm", TWO)
    assert findings(first, "shm", ONE) == []


def test_real_few_open_files_and_processes(first: dict[str, Any]) -> None:
    text = said(first, "limits", TWO)
    assert "256" in text
    assert "--pids-limit" in text
    assert findings(first, "limits", ONE) == []


def test_real_declared_shared_is_not(first: dict[str, Any]) -> None:
    text = said(first, "shared", ONE)
    assert "/apart" in text
    assert "node-2, node-3" in text
    assert "/shared " not in text


def test_real_root_in_the_containers_own_layer(first: dict[str, Any]) -> None:
    assert "outlives the container" in said(first, "disk", ONE, "warn")


def test_real_other_rows_on_a_node(nodes: Nodes, tmp_path: Path) -> None:
    document = {
        "name": "rows",
        "model": {"path": "/shared/model"},
        "data": {"train": ["/rows.jsonl"]},
        "training": {"iterations": 1},
    }
    run_file = tmp_path / "run.yml"
    run_file.write_text(json.dumps({"run": document}), encoding="utf-8")
    words = ("--only", "inputs", "-r", str(run_file))
    nodes.inside(ONE, "sh", "-c", "mkdir -p /shared/model; echo '{}' > /shared/model/config.json")
    for name, rows in ((ONE, "one two"), (TWO, "one")):
        nodes.inside(name, "sh", "-c", f"for row in {rows}; do echo $row; done > /rows.jsonl")
    report = look(nodes, *words)
    assert findings(report, "inputs", ONE) == []
    text = said(report, "inputs", TWO)
    assert "/rows.jsonl as node-1 has it: 2 rows, 8 bytes" in text
    assert "another: 1 rows, 4 bytes" in text
    assert "found none" in said(report, "inputs", THREE)
    for name in (TWO, THREE):
        nodes.inside(name, "sh", "-c", "printf 'one\\ntwo\\n' > /rows.jsonl")
    assert look(nodes, *words, code=0)["findings"] == []


def test_real_shared_but_not_declared(nodes: Nodes) -> None:
    """The root of node-1 lies on the shared disk, and node-2 sees it under the same path."""
    roots = "mkdir -p /shared/root && rm -rf /data/swiftops && ln -s /shared/root /data/swiftops"
    back = "rm /data/swiftops && mkdir -p /data/swiftops"
    made = "mkdir -p /data/swiftops/node-1"
    with put(nodes, ONE, f"{roots} && {made}", back), put(nodes, TWO, roots, back):
        text = said(look(nodes, "--only", "shared"), "shared", ONE, "warn")
    assert "node-2 see it too" in text


def test_real_full_disk(nodes: Nodes) -> None:
    """A root on a file system of 1 MB."""
    link = "rm -rf /data/swiftops && ln -s /full /data/swiftops && mkdir -p /full/node-2"
    with put(nodes, TWO, link, "rm /data/swiftops && mkdir -p /data/swiftops"):
        report = look(nodes, "--only", "disk")
    assert "du -xsh" in said(report, "disk", TWO)
    assert "lies in memory" in said(report, "disk", TWO, "warn")


def test_real_firewall_drops_high_ports(nodes: Nodes) -> None:
    with firewall(nodes, TWO, "-p", "tcp", "--dport", "40000:60999", "-j", "DROP"):
        report = look(nodes, "--only", "reach")
    text = said(report, "reach", TWO)
    assert "node-1, node-3 cannot reach" in text
    assert "a firewall drops it" in text
    assert report["seconds"] < 40


def test_real_firewall_rejects_ports(nodes: Nodes) -> None:
    rule = ("-p", "tcp", "--dport", "20000:29999", "-j", "REJECT", "--reject-with", "tcp-reset")
    with firewall(nodes, THREE, *rule):
        text = said(look(nodes, "--only", "reach"), "reach", THREE)
    assert "a firewall rejects it" in text


def test_real_own_name_is_127_0_1_1(nodes: Nodes) -> None:
    """Docker mounts /etc/hosts, so that it is written in place."""
    with put(
        nodes,
        TWO,
        "cp /etc/hosts /tmp/hosts; printf '127.0.0.1 localhost\\n127.0.1.1 node-2\\n' >/etc/hosts",
        "cat /tmp/hosts > /etc/hosts",
    ):
        text = said(look(nodes, "--only", "names", code=0), "names", TWO, "warn")
    assert "node-2 is 127.0.1.1" in text
    assert "Gloo" in text


def test_real_localhost_is_elsewhere(nodes: Nodes) -> None:
    with put(
        nodes,
        THREE,
        "cp /etc/hosts /tmp/hosts && echo '192.0.2.1 localhost' > /etc/hosts",
        "cat /tmp/hosts > /etc/hosts",
    ):
        assert "192.0.2.1" in said(look(nodes, "--only", "names"), "names", THREE)


def test_real_proxy_of_jobs_without_no_proxy(nodes: Nodes, tmp_path: Path) -> None:
    text = nodes.inventory.read_text(encoding="utf-8")
    path = nodes.folder / "proxied.yml"
    path.write_text(f"{text}env: {{http_proxy: 'http://proxy.example:3128'}}\n", encoding="utf-8")
    argv = [SWIFTOPS, "preflight", "-i", str(path), "--json", "--only", "proxy"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "172.30.64." in said(json.loads(done.stdout), "proxy", TWO)


def test_real_import_is_shadowed(nodes: Nodes) -> None:
    """A distribution is installed, and a folder earlier on the path has the module's name."""
    site = "/usr/local/lib/python3.11/dist-packages"
    made = (
        f"mkdir -p {site}/peft-0.17.dist-info /usr/lib/python3.11/peft && "
        f"printf 'Metadata-Version: 2.1\\nName: peft\\nVersion: 0.17.0\\n' "
        f"> {site}/peft-0.17.dist-info/METADATA && touch /usr/lib/python3.11/peft/__init__.py"
    )
    with put(nodes, TWO, made, f"rm -r {site}/peft-0.17.dist-info /usr/lib/python3.11/peft"):
        report = look(nodes, "--only", "packages", code=0)  # accepted in this fleet
    text = said(report, "packages", TWO, "note")
    assert "shadows 0.17.0" in text


def test_real_port_of_the_launch_is_taken(nodes: Nodes, tmp_path: Path) -> None:
    run_file = tmp_path / "run.yml"
    run_file.write_text(
        "run: {name: r, model: {path: /m}, data: {train: [/rows.jsonl]}, "
        "training: {iterations: 2}, deploy: {port: 8123}}\n",
        encoding="utf-8",
    )
    listen = "nohup python3 -m http.server 8123 >/dev/null 2>&1 & echo $! > /tmp/pid; sleep 1"
    with put(nodes, ONE, listen, "kill $(cat /tmp/pid)"):
        text = said(look(nodes, "--only", "ports", "-r", str(run_file)), "ports", ONE)
    assert "http.server 8123" in text
    look(nodes, "--only", "ports", "-r", str(run_file), code=0)


def test_real_shm_left_behind(nodes: Nodes) -> None:
    left = "head -c 50000000 /dev/zero > /dev/shm/left && touch -d '10 min ago' /dev/shm/left"
    with put(nodes, TWO, left, "rm /dev/shm/left"):
        text = said(look(nodes, "--only", "processes", code=0), "processes", TWO, "warn")
    assert "/dev/shm/left" in text


def test_real_orphans_of_a_dead_job_are_stopped_by_fix(nodes: Nodes) -> None:
    """A job whose supervisor is killed: --fix ends what it left, and nothing else."""
    folder = "/data/swiftops/node-3/runs/old/jobs/train"
    start = nodes.folder / "start.yml"
    start.write_text(
        "- hosts: node-3\n  gather_facts: false\n  tasks:\n"
        f"    - pyswiftops.fleet.job: {{directory: {folder}, run_id: old, stage: train, "
        "node: node-3, argv: [sleep, '3600']}\n",
        encoding="utf-8",
    )
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [program, str(start), "-i", str(nodes.inventory)],
        check=False,
        capture_output=True,
        text=True,
        env=nodes.environment(),
    )
    assert done.returncode == 0, done.stdout
    nodes.inside(THREE, "sh", "-c", "sleep 7200 >/dev/null 2>&1 &")  # not ours
    nodes.inside(THREE, "sh", "-c", "kill -9 $(pgrep -f supervisor[.]pyz)")
    time.sleep(1)
    before = look(nodes, "--only", "processes", code=0)
    assert "--fix" in said(before, "processes", THREE, "warn")
    after = look(nodes, "--only", "processes", "--fix", code=0)
    assert "run old" in after["fixed"][0]
    assert findings(after, "processes", THREE) == []
    alive = nodes.inside(THREE, "ps", "-eo", "args")
    assert "sleep 3600" not in alive
    assert "sleep 7200" in alive


def test_real_a_node_that_does_not_answer(nodes: Nodes) -> None:
    with put(
        nodes, THREE, "mv /usr/bin/python3 /usr/bin/away", "mv /usr/bin/away /usr/bin/python3"
    ):
        report = look(nodes, "--only", "nodes", "--only", "reach")
    assert "an answer" in said(report, "nodes", THREE)
    assert findings(report, "reach") == []  # nobody blames a firewall for it


def test_real_golden_result_shows_what_changed(nodes: Nodes) -> None:
    recorded = look(nodes, "--only", "baseline", "--record", code=0)
    assert recorded["recorded"].endswith("preflight.json")
    assert look(nodes, "--only", "baseline", code=0)["findings"] == []
    pid = run("docker", "inspect", "-f", "{{.State.Pid}}", f"swiftops-{nodes.fleet.name}-{ONE}")
    run("nsenter", "-t", pid, "-m", "mount", "-o", "remount,size=300m", "/dev/shm")
    try:
        text = said(look(nodes, "--only", "baseline", code=0), "baseline", ONE, "warn")
    finally:
        run("nsenter", "-t", pid, "-m", "mount", "-o", "remount,size=1g", "/dev/shm")
    assert "/dev/shm as recorded: 1.1 GB" in text


def test_real_upgrades_are_held_only_where_that_is_asked_for(nodes: Nodes) -> None:
    made = (
        "printf '#!/bin/sh\\n' > /usr/bin/unattended-upgrade; chmod +x /usr/bin/unattended-upgrade;"
        " echo 'APT::Periodic::Unattended-Upgrade \"1\";' > /etc/apt/apt.conf.d/20auto-upgrades"
    )
    away = "rm /usr/bin/unattended-upgrade /etc/apt/apt.conf.d/20auto-upgrades"
    with put(nodes, TWO, made, away):
        untouched = look(nodes, "--fix", code=1)
        assert findings(untouched, "upgrades", TWO)
        held = look(nodes, "--only", "upgrades", "--fix", code=0)
        assert "node-2: unattended upgrades are off" in held["fixed"]
        assert findings(held, "upgrades", TWO) == []


def test_real_the_role_says_the_same_to_ansible(nodes: Nodes) -> None:
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    argv = [program, "pyswiftops.fleet.preflight", "-i", str(nodes.inventory)]
    done = subprocess.run(
        [*argv, "-e", '{"preflight_only": ["shm", "shared"]}'],
        check=False,
        capture_output=True,
        text=True,
        env=nodes.environment(),
    )
    assert done.returncode != 0
    assert "--shm-size" in done.stdout
    fine = subprocess.run(
        [*argv, "-e", '{"preflight_only": ["reach", "clock"]}'],
        check=False,
        capture_output=True,
        text=True,
        env=nodes.environment(),
    )
    assert fine.returncode == 0, fine.stdout[-3000:]
