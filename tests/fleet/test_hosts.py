"""Two bare hosts: engine, image, containers and mesh, from nothing to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pyswiftops.preflight.playing import Options, preflight
from pyswiftops.specs.fleet import Fleet

from .docker_lab import docker, small_wheelhouse
from .hosts_lab import ADDRESSES, BASE, REGISTRY, Hosts, bare_hosts
from .hosts_lab import IMAGE as NODE_IMAGE

PROGRAM = "/usr/bin/unattended-upgrade"
HELD = "/etc/apt/apt.conf.d/99swiftops-hold"
pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """The hosts, their nodes made once; tests leave them as they found them."""
    with bare_hosts(tmp_path_factory.mktemp("hosts")) as bare:
        bare.push(NODE_IMAGE, BASE)
        bare.lab.play("containers")
        yield bare


def build(hosts: Hosts, **more: Any) -> dict[str, Any]:
    """The image's source with other keys."""
    return {"build": {**hosts.lab.document["container"]["image"]["build"], **more}}


def test_each_host_has_an_engine_kept_by_what_keeps_its_services(hosts: Hosts) -> None:
    assert hosts.on("h-2", "systemctl", "is-enabled", "docker") == "enabled"
    assert hosts.on("h-2", "systemctl", "is-active", "docker") == "active"
    assert hosts.on("h-1", "cat", "/var/run/docker.pid")


def test_the_image_is_built_once_and_handed_on(hosts: Hosts) -> None:
    assert hosts.image_of("h-1", "node-1") == hosts.image_of("h-2", "node-2")
    assert BASE in hosts.names("h-1")  # came by the mirror
    assert BASE not in hosts.names("h-2")
    assert hosts.on("h-1", "sh", "-c", "ls /var/tmp") == ""


def test_nodes_reach_each_other_by_their_names(hosts: Hosts) -> None:
    hosts.lab.play("settings")
    for host, node, other in (("h-1", "node-1", "node-2"), ("h-2", "node-2", "node-1")):
        inside = ["docker", "exec", hosts.lab.container(node)]
        said = hosts.on(host, *inside, "ssh", "-o", "BatchMode=yes", other, "hostname")
        assert said == other


def test_the_second_time_nothing_changes(hosts: Hosts) -> None:
    assert hosts.lab.play("containers").changed == {"h-1": 0, "h-2": 0}
    assert hosts.lab.play("settings").changed == {"node-1": 0, "node-2": 0}


def test_a_port_that_is_taken_is_refused_and_nothing_changes(hosts: Hosts) -> None:
    more = [*hosts.lab.document["nodes"], {"name": "node-3", "host": "h-1", "port": 22}]
    before = hosts.image_of("h-1", "node-1")
    said = hosts.lab.why("containers", nodes=more)
    assert "expected: a free port for node-3" in said
    assert "somebody listens at 22" in said
    assert hosts.image_of("h-1", "node-1") == before


def test_real_upgrades_of_the_host_below_containers(hosts: Hosts) -> None:
    file = "/etc/apt/apt.conf.d/20auto-upgrades"
    made = f"""printf '#!/bin/sh' > {PROGRAM}; chmod +x {PROGRAM}
        echo 'APT::Periodic::Unattended-Upgrade "1";' > {file}"""
    hosts.on("h-1", "sh", "-c", made)
    try:
        fleet = Fleet.load(hosts.lab.write())
        found = preflight(fleet, options=Options(only=["nodes", "upgrades", "engine"]))
        fixed = preflight(fleet, options=Options(only=["upgrades"], fix=True))
    finally:
        hosts.on("h-1", "rm", "-f", PROGRAM, file, HELD)
    assert set(found.hosts) == set(ADDRESSES)
    assert found.nodes == ("node-1", "node-2")
    assert [(item.check, item.node) for item in found.findings] == [("upgrades", "h-1")]
    assert fixed.fixed == ("h-1: unattended upgrades are off",)
    assert fixed.findings == ()


def test_nodes_are_back_after_their_host_was_rebooted(hosts: Hosts) -> None:
    hosts.reboot("h-2")
    hosts.await_node("h-2")
    assert hosts.lab.play("containers").changed["h-2"] == 0


def test_a_host_without_systemd_gets_its_engine_started_again(hosts: Hosts) -> None:
    hosts.reboot("h-1")
    assert hosts.lab.play("containers").changed["h-1"] > 0
    hosts.await_node("h-1")


def test_a_registry_hands_the_image_on_where_one_is_named(hosts: Hosts) -> None:
    before = hosts.image_of("h-2", "node-2")
    other = small_wheelhouse(hosts.lab.folder / "other", "1.1")
    source = build(hosts, registry=f"{REGISTRY}:5000/lab", wheelhouse=str(other))
    hosts.lab.play("containers", image=source)
    assert hosts.image_of("h-1", "node-1") == hosts.image_of("h-2", "node-2") != before
    for host in ADDRESSES:
        assert not [name for name in hosts.names(host) if name.startswith(REGISTRY)]


def test_an_image_is_pulled_by_its_digest(hosts: Hosts) -> None:
    digest = hosts.push(NODE_IMAGE, "lab/node")
    source = {"pull": f"{REGISTRY}:5000/lab/node@{digest}"}
    hosts.lab.play("containers", image=source)
    assert hosts.image_of("h-2", "node-2") == docker(
        "image", "inspect", "-f", "{{.Id}}", NODE_IMAGE
    )
    assert hosts.lab.play("containers", image=source).changed == {"h-1": 0, "h-2": 0}


def proxy_of(hosts: Hosts, host: str) -> str:
    return hosts.on(host, "docker", "info", "--format", "{{.HTTPProxy}} {{.NoProxy}}").strip()


def test_the_daemons_proxy_is_set_and_never_under_a_live_job(hosts: Hosts) -> None:
    mine = {**hosts.lab.document["container"]["engine"]}
    engine = {**mine, "proxy": "http://me:first@127.0.0.1:9"}
    node = hosts.lab.container("node-2")
    job = ["docker", "exec", "--detach", "--env=SWIFTOPS_JOB=r1/train", node, "sleep", "600"]
    hosts.on("h-2", *job)
    said = hosts.lab.why("images", engine=engine)
    assert "expected: no job alive in a container" in said
    assert f"{node} (r1/train)" in said
    hosts.on("h-2", "docker", "exec", node, "pkill", "sleep")
    hosts.lab.play("images", engine=engine)
    for host in ADDRESSES:
        assert proxy_of(hosts, host).startswith("http://xxxxx:xxxxx@127.0.0.1:9 ")
    hosts.await_node("h-2")
    assert hosts.lab.play("images", engine=engine).changed == {"h-1": 0, "h-2": 0}
    engine["proxy"] = "http://me:second@127.0.0.1:9"  # which docker info does not tell apart
    changed = hosts.lab.play("images", engine=engine).changed
    assert all(changed.values())


def test_the_fleets_proxy_is_the_daemons_and_goes_with_the_field(hosts: Hosts) -> None:
    hosts.lab.document["proxy"] = {"http": "http://127.0.0.1:9", "engine": True}
    try:
        hosts.lab.play("images")
    finally:
        del hosts.lab.document["proxy"]
    for host, address in ADDRESSES.items():
        proxy, past = proxy_of(hosts, host).split()
        assert proxy == "http://127.0.0.1:9"
        assert address in past.split(",")
    hosts.lab.play("images")
    for host in ADDRESSES:
        assert proxy_of(hosts, host) == ""
    assert hosts.lab.play("images").changed == {"h-1": 0, "h-2": 0}


def test_teardown_leaves_nothing_of_the_fleet(hosts: Hosts) -> None:
    hosts.lab.play("teardown", variables={"teardown_data": True})
    label = f"label=swiftops.fleet={hosts.lab.name}"
    for host in ADDRESSES:
        assert hosts.on(host, "docker", "ps", "-aq", "--filter", label) == ""
        assert hosts.on(host, "docker", "volume", "ls", "-q", "--filter", label) == ""
        assert not [name for name in hosts.names(host) if hosts.lab.name in name]
        assert hosts.on(host, "ls", "-d", "/data/models") == "/data/models"
