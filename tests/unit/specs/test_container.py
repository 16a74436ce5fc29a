"""Fleets of containers that we make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops.content import collections_path
from pyswiftops.errors import FleetError
from pyswiftops.specs.fleet import Fleet

BUILD = {"build": {"wheelhouse": "wheels"}}


def document(**changes: Any) -> dict[str, Any]:
    return {
        "plugin": "pyswiftops.fleet.fleet",
        "name": "lab",
        "runtime": "container",
        "device": "cpu",
        "state": "state",
        "hosts": [{"name": "host-1"}],
        "container": {"image": BUILD, "mounts": {"models": "/data/models"}},
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        **changes,
    }


def load(folder: Path, **changes: Any) -> Fleet:
    path = folder / "fleet.yml"
    path.write_text(yaml.safe_dump(document(**changes)), encoding="utf-8")
    return Fleet.load(path)


def test_nodes_lie_in_the_private_network_and_trust_only_pinned_keys(tmp_path: Path) -> None:
    nodes = load(tmp_path).host_vars()
    assert [node["ansible_host"] for node in nodes.values()] == ["172.30.7.10", "172.30.7.11"]
    node = nodes["node-1"]
    assert node["ansible_port"] == 2333
    assert node["ansible_ssh_private_key_file"] == str(tmp_path / "state" / "id_ed25519")
    assert f"-o UserKnownHostsFile='{tmp_path}/state/known_hosts'" in node["ansible_ssh_args"]
    assert "-o HostKeyAlias='swiftops-lab-node-1'" in node["ansible_ssh_args"]
    assert "-o StrictHostKeyChecking='yes'" in node["ansible_ssh_args"]
    assert node["swiftops_interface"] == "eth0"
    assert node["swiftops_python"] == "/opt/swift/bin/python"
    assert node["swiftops_host"] == "host-1"


def test_a_host_has_all_settings_of_its_containers(tmp_path: Path) -> None:
    (host,) = load(tmp_path).machine_vars().values()
    assert host["ansible_connection"] == "local"
    assert host["swiftops_container"]["network"] == {
        "mode": "bridge",
        "name": "swiftops-lab",
        "subnet": "172.30.7.0/24",
    }
    assert host["swiftops_container"]["image"]["build"]["wheelhouse"] == str(tmp_path / "wheels")
    assert host["swiftops_container"]["mounts"] == [
        {"name": "models", "path": "/data/models", "target": "/models", "read_only": False}
    ]
    assert [node["name"] for node in host["swiftops_host_nodes"]] == ["node-1", "node-2"]


def test_nodes_behind_a_host_are_reached_through_it(tmp_path: Path) -> None:
    fleet = load(
        tmp_path,
        hosts=[{"name": "host-1", "address": "192.0.2.9", "port": 2022}],
        host_ssh={"user": "ops", "private_key": "/k", "proxy_jump": "me@bastion"},
    )
    arguments = fleet.host_vars()["node-1"]["ansible_ssh_args"]
    way = "ssh -W '\\''[%h]:%p'\\'' -p 2022 -l ops -i /k -o ProxyJump=me@bastion 192.0.2.9"
    assert f"-o ProxyCommand='{way}'" in arguments
    host = fleet.machine_vars()["host-1"]
    assert host["ansible_become"] is True
    assert host["ansible_port"] == 2022


def test_with_the_hosts_network_a_node_is_at_its_host(tmp_path: Path) -> None:
    fleet = load(
        tmp_path,
        hosts=[{"name": "a", "address": "192.0.2.1"}, {"name": "b", "address": "192.0.2.2"}],
        nodes=[{"name": "node-1", "host": "a"}, {"name": "node-2", "host": "b"}],
        container={"image": BUILD, "network": "host"},
    )
    found = {name: node["ansible_host"] for name, node in fleet.host_vars().items()}
    assert found == {"node-1": "192.0.2.1", "node-2": "192.0.2.2"}
    assert "ProxyCommand" not in fleet.host_vars()["node-1"]["ansible_ssh_args"]


def test_a_container_counts_its_own_gpus_from_0(tmp_path: Path) -> None:
    nodes = [{"name": "node-1", "gpus": [0, 1]}, {"name": "node-2", "gpus": [2, 3]}]
    fleet = load(tmp_path, device="gpu", nodes=nodes)
    assert fleet.host_vars()["node-2"]["swiftops_gpus"] == [0, 1]
    assert fleet.machine_vars()["host-1"]["swiftops_host_nodes"][1]["gpus"] == [2, 3]


def test_what_was_loaded_can_be_written_and_loaded_elsewhere(tmp_path: Path) -> None:
    fleet = load(tmp_path)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "fleet.yml").write_text(fleet.to_yaml(), encoding="utf-8")
    assert Fleet.load(other / "fleet.yml") == fleet


def test_the_inventory_has_both_groups(tmp_path: Path) -> None:
    load(tmp_path)
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", tmp_path / "fleet.yml", "--list"],
        capture_output=True,
        text=True,
        check=True,
        env={"ANSIBLE_COLLECTIONS_PATH": str(collections_path()), "PATH": "/usr/bin:/bin"},
    )
    groups = json.loads(done.stdout)
    assert groups["swiftops_hosts"]["hosts"] == ["host-1"]
    assert groups["swiftops_nodes"]["hosts"] == ["node-1", "node-2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtime": "host"}, "hosts only with runtime container"),
        ({"container": None}, "hosts and container together"),
        ({"hosts": []}, "hosts and container together"),
        ({"nodes": [{"name": "node-1", "host": "c"}]}, "host: one of host-1; node-1 has c"),
        ({"nodes": [{"name": "host-1"}]}, "names that no other host or node has"),
        (
            {"hosts": [{"name": "a"}, {"name": "b"}]},
            "host: one of a, b for every node; node-1 has none",
        ),
        (
            {
                "hosts": [{"name": "a"}, {"name": "b"}],
                "nodes": [{"name": "n", "host": "a"}, {"name": "m", "host": "b"}],
            },
            "a private network ends at its host",
        ),
        (
            {"nodes": [{"name": "node-1", "address": "10.0.0.1"}]},
            "addresses inside container.network.subnet 172.30.7.0/24",
        ),
        ({"nodes": [{"name": "n", "address": "172.30.7.1"}]}, "addresses inside"),
        (
            {"container": {"image": BUILD, "network": {"subnet": "172.30.7.0/29"}}},
            "an address for every node",
        ),
        ({"container": {"image": {}}}, "one of pull, archive, build; none is given"),
        ({"container": {"image": {"pull": "a:latest"}}}, "with its digest"),
        ({"container": {"image": {**BUILD, "archive": "x"}}}, "build is given"),
        ({"container": {"image": BUILD, "shm_size": "big"}}, "a size such as 16g"),
        ({"container": {"image": BUILD, "ulimits": ["memlock"]}}, "limits as name=soft"),
        ({"container": {"image": BUILD, "mounts": {"models": "data"}}}, "an absolute path"),
        ({"container": {"image": BUILD, "mounts": {"a": "/"}}}, "not / itself"),
        (
            {
                "container": {
                    "image": BUILD,
                    "mounts": {"a": "/x", "b": {"path": "/y", "target": "/a"}},
                }
            },
            "a place of its own for every mount; two at /a",
        ),
        (
            {"device": "gpu", "nodes": [{"name": "n", "gpus": 2}, {"name": "m", "gpus": 2}]},
            "GPUs of its own for every node",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(FleetError) as problem:
        load(tmp_path, **changes)
    assert said in str(problem.value)
