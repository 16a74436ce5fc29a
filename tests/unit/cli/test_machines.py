"""How to get a shell on a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pyswiftops.cli.machines import shell_argv
from pyswiftops.specs.fleet import Fleet

from .conftest import Swiftops

HOSTS: dict[str, Any] = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "container",
    "ssh": {
        "user": "swift",
        "private_key": "/keys/it's mine",
        "proxy_jump": "me@bastion:2222",
        "options": {"ConnectTimeout": "5"},
    },
    "nodes": [{"name": "node-1", "address": "10.0.0.1"}, {"name": "node-2", "address": "fd00::2"}],
}


def test_ssh_gets_what_the_fleet_file_says() -> None:
    argv, environment, folder = shell_argv(Fleet.from_document(HOSTS, Path("f.yml")), "node-2")
    assert argv[:2] == ["ssh", "-t"]
    words = " ".join(argv)
    assert "ProxyJump=me@bastion:2222" in words
    assert "ConnectTimeout=5" in words
    assert argv[-8:] == ["-p", "2333", "-i", "/keys/it's mine", "-l", "swift", "--", "fd00::2"]
    assert (environment, folder) == ({}, None)


def test_a_local_node_gives_the_users_shell_in_its_root(swiftops: Swiftops) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "nodes",
        "nodes": [{"name": "node-1"}],
    }
    Path("fleet.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    Path("nodes", "node-1").mkdir(parents=True)
    told = json.loads(swiftops("shell", "node-1", "--json").out)
    assert told["folder"] == str(Path("nodes", "node-1").resolve())
    assert told["environment"]["SWIFTOPS_NODE"] == "node-1"
    assert swiftops("shell", "node-1", "--print").out.strip() == told["argv"][0]
    wrong = swiftops("shell", "node-9")
    assert wrong.code == 2
    assert "node-1" in wrong.err
