"""What containers are to be: named, labelled, bounded; made anew only when something changed."""

from __future__ import annotations

from typing import Any

import pytest

from pyswiftops.errors import FleetError
from pyswiftops.planner import containers as planned

IMAGE = "sha256:" + "1" * 64


def variables(device: str = "cpu", **settings: Any) -> dict[str, Any]:
    nodes = [
        {
            "name": f"node-{rank}",
            "address": f"172.30.7.1{rank}",
            "port": 2333,
            "gpus": [rank] if device == "gpu" else None,
            "root": f"/data/swiftops/node-{rank}",
        }
        for rank in (0, 1)
    ]
    return {
        "swiftops_fleet_name": "lab",
        "swiftops_device": device,
        "swiftops_host_nodes": nodes,
        "swiftops_container": {
            "network": {"mode": "bridge", "name": "swiftops-lab", "subnet": "172.30.7.0/24"},
            "shm_size": "1g",
            "mounts": [],
            "devices": [],
            "ulimits": ["memlock=-1"],
            "capabilities": ["IPC_LOCK"],
            "gpus": "auto",
            **settings,
        },
    }


def first(device: str = "cpu", *, limits: bool = True, **settings: Any) -> dict[str, Any]:
    return planned.containers(variables(device, **settings), IMAGE, limits=limits)[0]


def test_a_container_has_its_names_its_network_and_an_init() -> None:
    item = first()
    wanted = item["wanted"]
    assert wanted["name"] == "swiftops-lab-node-0"
    assert wanted["hostname"] == "node-0"
    assert wanted["networks"] == [{"name": "swiftops-lab", "ipv4_address": "172.30.7.10"}]
    assert wanted["init"] is True
    assert wanted["restart_policy"] == "unless-stopped"
    assert wanted["ulimits"] == ["memlock:-1:-1"]
    assert "/dev/tcp/172.30.7.10/2333" in wanted["healthcheck"]["test"][-1]
    assert wanted["labels"] == {
        "swiftops.fleet": "lab",
        "swiftops.node": "node-0",
        "swiftops.definition": item["definition"],
    }


def test_settings_and_root_lie_in_volumes_that_outlive_the_container() -> None:
    item = first()
    assert [(mount["source"], mount["target"]) for mount in item["wanted"]["mounts"]] == [
        ("swiftops-lab-node-0-etc", "/etc/swiftops"),
        ("swiftops-lab-node-0-data", "/data/swiftops/node-0"),
    ]
    assert item["settings"] == (
        "type=volume,source=swiftops-lab-node-0-etc,target=/etc/swiftops,"
        "volume-label=swiftops.fleet=lab,volume-label=swiftops.node=node-0,"
        "volume-label=swiftops.use=etc"
    )


def test_a_mount_that_holds_the_root_takes_the_place_of_its_volume() -> None:
    folder = {"name": "data", "path": "/big/data", "target": "/data", "read_only": False}
    mounts = first(mounts=[folder])["wanted"]["mounts"]
    assert [mount["target"] for mount in mounts] == ["/data", "/etc/swiftops"]
    assert mounts[0] == {
        "type": "bind",
        "source": "/big/data",
        "target": "/data",
        "read_only": False,
    }
    beside = {**folder, "target": "/data/swift"}  # the root only begins with the same letters
    assert len(first(mounts=[beside])["wanted"]["mounts"]) == 3


@pytest.mark.parametrize(
    ("way", "gpus", "expected"),
    [
        ("auto", [3], {"driver": "nvidia", "capabilities": [["gpu"]], "device_ids": ["3"]}),
        ("toolkit", None, {"driver": "nvidia", "capabilities": [["gpu"]], "count": -1}),
        ("cdi", [0, 1], {"driver": "cdi", "device_ids": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}),
        ("cdi", None, {"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"]}),
    ],
)
def test_gpus_by_the_way_that_was_asked_for(
    way: str, gpus: list[int] | None, expected: dict[str, Any]
) -> None:
    given = variables("gpu", gpus=way)
    given["swiftops_host_nodes"][0]["gpus"] = gpus
    assert planned.containers(given, IMAGE)[0]["wanted"]["device_requests"] == [expected]


def test_no_gpus_on_device_cpu_or_where_none_are_wanted() -> None:
    assert first()["wanted"]["device_requests"] == []
    assert first("gpu", gpus="none")["wanted"]["device_requests"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"shm_size": "2g"},
        {"capabilities": []},
        {"network": {"mode": "bridge", "name": "swiftops-lab", "subnet": "172.30.0.0/16"}},
        {"devices": ["/dev/infiniband"]},
    ],
)
def test_any_change_makes_another_definition(change: dict[str, Any]) -> None:
    assert first(**change)["definition"] != first()["definition"]
    assert first()["definition"] == first()["definition"]


def test_only_what_is_missing_or_has_changed_is_made() -> None:
    wanted = planned.containers(variables(), IMAGE)
    there = {
        item["wanted"]["name"]: {"definition": item["definition"], "jobs": []} for item in wanted
    }
    assert planned.lacking(wanted, there) == []
    there["swiftops-lab-node-1"]["definition"] = "other"
    assert planned.lacking(wanted, there) == [wanted[1]]
    del there["swiftops-lab-node-0"]
    assert planned.lacking(wanted, there) == wanted


def test_live_jobs_of_some_containers_only() -> None:
    there = {"a": {"jobs": ["r1/train"]}, "b": {"jobs": ["r2/train"]}, "c": {"jobs": []}}
    assert planned.live(there, ["a", "c"]) == ["a (r1/train)"]


def test_on_the_hosts_network_each_node_needs_a_port_of_its_own() -> None:
    host = {"mode": "host", "name": "host", "subnet": None}
    given = variables(network=host)
    with pytest.raises(FleetError, match="port 2333 for node-0, node-1"):
        planned.containers(given, IMAGE)
    given["swiftops_host_nodes"][1]["port"] = 2334
    one, other = planned.containers(given, IMAGE)
    assert one["wanted"]["network_mode"] == "host"
    assert one["wanted"]["networks"] == []
    assert "/dev/tcp/127.0.0.1/2334" in other["wanted"]["healthcheck"]["test"][-1]


def test_a_daemon_that_may_not_raise_limits() -> None:
    assert first(limits=False)["wanted"]["ulimits"] == []
    with pytest.raises(FleetError, match="SYS_RESOURCE"):
        first("gpu", limits=False)


@pytest.mark.parametrize(
    ("size", "expected"), [("1g", 1 << 30), ("512M", 512 << 20), ("64", 64), ("2k", 2048)]
)
def test_sizes_in_dockers_notation(size: str, expected: int) -> None:
    assert planned.memory_of(size) == expected


def test_an_images_name_is_the_sum_of_text_wheels_and_base() -> None:
    wheels = {"files": {"packages/a.whl": "1", "b.whl": "2"}}
    name = planned.image_definition("FROM x", wheels, "base")
    again = {"files": dict(reversed(wheels["files"].items())), "line": "4.6"}
    assert planned.image_definition("FROM x", again, "base") == name
    assert planned.image_definition("FROM y", wheels, "base") != name
    assert planned.image_definition("FROM x", wheels, "other") != name
    assert planned.image_definition("FROM x", {"files": {"b.whl": "2"}}, "base") != name


def test_what_an_image_sets() -> None:
    inspected = {"Config": {"Env": ["PATH=/opt/swift/bin:/bin", "A=b=c", "broken"]}}
    assert planned.image_environment(inspected) == {"PATH": "/opt/swift/bin:/bin", "A": "b=c"}
    assert planned.image_environment({"Config": {"Env": None}}) == {}


def test_the_daemon_gets_only_what_was_asked_for() -> None:
    nothing = {"install": True, "proxy": None, "registry_mirrors": []}
    nothing |= {"insecure_registries": [], "nvidia": True}
    assert planned.engine_settings(nothing, "cpu") == {}
    assert "nvidia" in planned.engine_settings(nothing, "gpu")["runtimes"]
    mirrors = {**nothing, "registry_mirrors": ["https://m.example"]}
    assert planned.engine_settings(mirrors, "cpu") == {"registry-mirrors": ["https://m.example"]}
    assert planned.engine_proxy("http://p:3128", ["172.30.7.0/24"]) == {
        "HTTP_PROXY": "http://p:3128",
        "HTTPS_PROXY": "http://p:3128",
        "NO_PROXY": "localhost,127.0.0.1,::1,172.30.7.0/24",
    }


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        (None, ""),
        ("http://p:3128", "http://p:3128 localhost,127.0.0.1,::1,a"),
        # as docker 20.10 printed it of a daemon that was started with this
        (
            "http://us:pa%2Fss@127.0.0.1:9",
            "http://xxxxx:xxxxx@127.0.0.1:9 localhost,127.0.0.1,::1,a",
        ),
        ("http://us@p", "http://xxxxx:xxxxx@p localhost,127.0.0.1,::1,a"),
    ],
)
def test_what_docker_info_tells_of_a_proxy_is_known(proxy: str | None, told: str) -> None:
    assert planned.engine_told(planned.engine_proxy(proxy, ["a"])) == told
