"""The fleet file: what is accepted, what Ansible gets, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyswiftops.errors import BadInputError, FleetError
from pyswiftops.specs.fleet import Fleet

LOCAL = """\
plugin: pyswiftops.fleet.fleet
runtime: local
device: cpu
root: nodes
nodes:
  - name: node-1
  - name: node-2
"""

HOSTS = """\
plugin: pyswiftops.fleet.fleet
runtime: host
training_network: 10.9.0.0/24
training_interface: eth1
ssh:
  user: ops
  private_key: /keys/id
  proxy_jump: jump@bastion:2222
  options:
    UserKnownHostsFile: /a path/known_hosts
nodes:
  - {name: gpu-b, address: 192.0.2.2, training_address: 10.9.0.2, gpus: 8}
  - {name: gpu-a, address: 192.0.2.1, training_address: 10.9.0.1, gpus: [0, 3]}
"""


def load(tmp_path: Path, text: str) -> Fleet:
    path = tmp_path / "fleet.yml"
    path.write_text(text, encoding="utf-8")
    return Fleet.load(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(FleetError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_local_nodes_have_separate_roots_and_hide_each_others(tmp_path: Path) -> None:
    hosts = load(tmp_path, LOCAL).host_vars()
    first, second = hosts["node-1"], hosts["node-2"]
    assert first["swiftops_root"] == str(tmp_path / "nodes" / "node-1")
    assert first["swiftops_hidden_paths"] == [second["swiftops_root"]]
    assert second["swiftops_hidden_paths"] == [first["swiftops_root"]]
    assert first["ansible_connection"] == "local"
    assert (first["swiftops_ranks"], first["swiftops_gpus"]) == (1, [])


def test_ranks_follow_the_file_not_the_names(tmp_path: Path) -> None:
    hosts = load(tmp_path, HOSTS).host_vars()
    assert [(name, host["swiftops_rank"]) for name, host in hosts.items()] == [
        ("gpu-b", 0),
        ("gpu-a", 1),
    ]
    assert hosts["gpu-b"]["swiftops_ranks"] == 8
    assert hosts["gpu-a"]["swiftops_gpus"] == [0, 3]
    assert hosts["gpu-a"]["swiftops_address"] == "10.9.0.1"
    assert hosts["gpu-a"]["swiftops_interface"] == "eth1"


def test_ssh_settings_become_connection_variables(tmp_path: Path) -> None:
    host = load(tmp_path, HOSTS).host_vars()["gpu-b"]
    assert host["ansible_host"] == "192.0.2.2"
    assert host["ansible_port"] == 22
    assert host["ansible_user"] == "ops"
    assert host["ansible_ssh_private_key_file"] == "/keys/id"
    assert host["ansible_pipelining"] is True
    assert "-o ProxyJump='jump@bastion:2222'" in host["ansible_ssh_args"]
    assert "-o UserKnownHostsFile='/a path/known_hosts'" in host["ansible_ssh_args"]


def test_containers_are_reached_on_port_2333(tmp_path: Path) -> None:
    host = load(tmp_path, HOSTS.replace("host\n", "container\n", 1)).host_vars()["gpu-b"]
    assert host["ansible_port"] == 2333


def test_device_cpu_hides_gpus(tmp_path: Path) -> None:
    text = HOSTS.replace("runtime: host", "runtime: host\ndevice: cpu")
    host = load(tmp_path, text).host_vars()["gpu-b"]
    assert (host["swiftops_ranks"], host["swiftops_gpus"]) == (1, [])


def test_a_written_fleet_reads_back_the_same(tmp_path: Path) -> None:
    fleet = load(tmp_path, HOSTS)
    again = tmp_path / "again.yml"
    again.write_text(fleet.to_yaml(), encoding="utf-8")
    assert again.read_text(encoding="utf-8").startswith("plugin: pyswiftops.fleet.fleet\n")
    assert Fleet.load(again) == fleet


def test_roots_of_nodes_elsewhere_are_absolute(tmp_path: Path) -> None:
    assert "not so on gpu-b, gpu-a" in refused(tmp_path, HOSTS + "root: relative\n")


def test_a_local_nodes_root_is_taken_from_the_file(tmp_path: Path) -> None:
    text = LOCAL.replace("name: node-2", "name: node-2\n    root: second")
    hosts = load(tmp_path, text).host_vars()
    assert hosts["node-2"]["swiftops_root"] == str(tmp_path / "second")


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        Fleet.load(tmp_path / "none.yml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("nodes:", "nodes: [\n"), "not YAML"),
        (("plugin: pyswiftops.fleet.fleet\n", ""), "no plugin line"),
        (("fleet.fleet", "fleet.flet"), "plugin: pyswiftops.fleet.flet"),
        (("runtime: local", "runtime: lokal"), "runtime: one of container, host, local"),
        (("runtime: local\n", ""), "no runtime"),
        (("node-2", "node-1"), "duplicate node node-1"),
        (("device: cpu", "devise: cpu"), "did you mean 'device'?"),
        (("- name: node-1", "- name: node-1\n    adress: x"), "did you mean 'address'?"),
        (("device: cpu", "device: tpu"), "'gpu' or 'cpu'"),
        (("node-2", "Node_2"), "host name label"),
        (("runtime: local", "runtime: host"), "none for node-1, node-2"),
        (("  - name: node-1\n  - name: node-2\n", " []"), "at least 1 item"),
        (("name: node-2", "name: node-2\n    gpus: 0"), "at least one GPU"),
        (("name: node-2", "name: node-2\n    gpus: [1, 1]"), "each once"),
    ],
)
def test_each_mistake_names_itself(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert said in refused(tmp_path, LOCAL.replace(*change))


def test_an_address_off_the_training_network_is_refused(tmp_path: Path) -> None:
    assert "gpu-a has 10.8.0.1" in refused(tmp_path, HOSTS.replace("10.9.0.1", "10.8.0.1"))


def test_host_key_checking_cannot_be_switched_off(tmp_path: Path) -> None:
    text = HOSTS.replace("UserKnownHostsFile: /a path/known_hosts", "StrictHostKeyChecking: 'no'")
    assert "StrictHostKeyChecking stays on" in refused(tmp_path, text)


def test_the_message_has_expected_found_where_and_remedy(tmp_path: Path) -> None:
    message = refused(tmp_path, LOCAL.replace("lokal", "x").replace("local", "lokal"))
    for part in ("expected: ", "found: 'lokal'", f"where: {tmp_path}/fleet.yml", "remedy: "):
        assert part in message
