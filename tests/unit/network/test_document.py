"""What the controller keeps, the file of a node, and swiftops why nccl."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.module_utils.launch import env_file
from pyswiftops import fleet_network
from pyswiftops.errors import BadInputError
from pyswiftops.network import document
from pyswiftops.specs.fleet import Fleet

NAMES = ["node-1", "node-2"]
FLEET = {
    "plugin": "pyswiftops.fleet.fleet",
    "name": "lab",
    "runtime": "host",
    "nodes": [
        {"name": "node-1", "address": "10.0.0.1"},
        {"name": "node-2", "address": "10.0.0.2", "training_interface": "ens9"},
    ],
}


def facts(mine: str, theirs: str, interface: str) -> dict[str, Any]:
    address = {"address": mine, "prefix": 24, "family": 4, "scope": "global"}
    link = {"name": interface, "kind": "physical", "up": True, "mtu": 1500, "speed": None}
    here = {"resolved": mine, "interface": "lo", "source": mine, "via": None, "local": True}
    there = {**here, "resolved": theirs, "interface": interface, "local": False}
    return {
        "interfaces": [{**link, "master": None, "mode": None, "addresses": [address]}],
        "routes": {mine: here, theirs: there},
        "hcas": [],
        "plugins": [],
        "gpudirect": {"gpus": 0, "peermem": False, "dmabuf": False},
        "preset": [],
        "topology": None,
    }


TOLD = {
    "node-1": facts("10.0.0.1", "10.0.0.2", "eth0"),
    "node-2": facts("10.0.0.2", "10.0.0.1", "ens9"),
}


def variables(**more: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {"swiftops_address": f"10.0.0.{rank}", "settings_done": {"network": TOLD[name]}}
        | more
        for rank, name in enumerate(NAMES, 1)
    }


def kept(state: Path) -> list[str]:
    found = document.gathered(variables(), NAMES, TOLD)
    return document.write(state, found, document.decided(found))


def test_what_was_kept_is_kept_and_a_change_is_seen(tmp_path: Path) -> None:
    assert not document.nccl_as_kept(variables(), NAMES, str(tmp_path))
    assert kept(tmp_path) == NAMES
    assert document.nccl_as_kept(variables(), NAMES, str(tmp_path))
    assert kept(tmp_path) == []
    assert not document.nccl_as_kept(
        variables(swiftops_env={"NCCL_IB_DISABLE": "0"}), NAMES, str(tmp_path)
    )
    other = variables()
    other["node-2"]["settings_done"] = {"network": {**TOLD["node-2"], "plugins": ["/x.so"]}}
    assert not document.nccl_as_kept(other, NAMES, str(tmp_path))


def test_a_node_that_is_down_keeps_what_it_told(tmp_path: Path) -> None:
    kept(tmp_path)
    down = variables()
    del down["node-2"]["settings_done"]
    assert document.nccl_as_kept(down, NAMES, str(tmp_path))


def test_the_file_is_one_resource_and_none_before_it_was_decided(tmp_path: Path) -> None:
    assert document.nccl_resources(str(tmp_path), "node-1", "/etc/swiftops/nccl.env") == []
    kept(tmp_path)
    [item] = document.nccl_resources(str(tmp_path), "node-1", "/etc/swiftops/nccl.env")
    assert item["path"] == "/etc/swiftops/nccl.env"
    assert "\nGLOO_SOCKET_IFNAME=eth0\n" in item["content"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_and_a_job_read_the_file_alike(tmp_path: Path, shell: str) -> None:
    kept(tmp_path)
    file = tmp_path / document.FILES / "node-2"
    assert env_file(str(file))["NCCL_SOCKET_IFNAME"] == "=ens9"
    assert shutil.which(shell)
    words = [shell, "-c", f"set -a; . '{file}'; env"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env={}).stdout
    told = dict(line.split("=", 1) for line in said.splitlines())
    assert env_file(str(file)).items() <= told.items()


def test_peers_are_asked_for_by_their_training_addresses() -> None:
    nodes = [{"training": "10.1.0.1", "address": "1.1.1.1"}, {"training": "", "address": "2.2.2.2"}]
    assert document.nccl_peers(nodes) == ["10.1.0.1", "2.2.2.2"]


def test_the_fleet_names_an_interface_a_node_and_jobs_their_file(tmp_path: Path) -> None:
    told = Fleet.from_document(FLEET, tmp_path / "f.yml").host_vars()
    assert [told[name]["swiftops_interface"] for name in NAMES] == [None, "ens9"]
    assert told["node-1"]["swiftops_network_file"] == "/etc/swiftops/nccl.env"
    local = {**FLEET, "runtime": "local", "nodes": [{"name": "a"}]}
    [only] = Fleet.from_document(local, tmp_path / "f.yml").host_vars().values()
    assert only["swiftops_network_file"] == ""  # those of this machine are not a node's


def test_why_tells_every_value_and_finding(tmp_path: Path) -> None:
    state = tmp_path / "state"
    fleet = Fleet.from_document({**FLEET, "state": str(state)}, tmp_path / "f.yml")
    with pytest.raises(BadInputError, match="swiftops why nccl --now"):
        fleet_network.kept(fleet)
    kept(state)
    decision = fleet_network.kept(fleet)
    assert decision.nodes["node-2"]["GLOO_SOCKET_IFNAME"].source == "fleet"
    assert decision.nodes["node-1"]["GLOO_SOCKET_IFNAME"].source == "derived"
    (tmp_path / "f.yml").write_text(yaml.safe_dump({**FLEET, "state": str(state)}), "utf-8")
    assert json.loads((state / document.FACTS).read_text("utf-8"))["nodes"].keys() == set(NAMES)
