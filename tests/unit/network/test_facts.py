"""What a node tells: from sysfs, from the texts of its tools, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils import launch, network_facts


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")


def test_rdma_ports_are_read_from_sysfs(tmp_path: Path) -> None:
    port = "sys/class/infiniband/mlx5_0/ports/1"
    zero, mapped = "0000:" * 7 + "0000", "0000:0000:0000:0000:0000:ffff:0a00:0001"
    write(
        tmp_path,
        **{
            f"{port}/link_layer": "Ethernet",
            f"{port}/state": "4: ACTIVE",
            f"{port}/rate": "100 Gb/sec (4X EDR)",
            f"{port}/gids/0": zero,
            f"{port}/gids/3": mapped,
            f"{port}/gid_attrs/types/3": "RoCE v2",
            f"{port}/gid_attrs/ndevs/3": "eth2",
            "sys/class/infiniband/mlx5_0/device/net/eth2/mtu": "9000",
            "sys/class/infiniband/mlx5_10/ports/1/state": "1: DOWN",
            "sys/class/infiniband/mlx5_2/ports/1/state": "1: DOWN",
        },
    )
    first, *others = network_facts.hcas(str(tmp_path))
    assert first == {
        "name": "mlx5_0",
        "port": 1,
        "driver": None,
        "link_layer": "Ethernet",
        "active": True,
        "rate": 100.0,
        "interface": "eth2",
        "gids": [{"index": 3, "type": "RoCE v2", "gid": mapped, "interface": "eth2"}],
    }
    assert [port["name"] for port in others] == ["mlx5_2", "mlx5_10"]
    assert not any(port["active"] for port in others)


@pytest.mark.parametrize(
    ("files", "peermem", "dmabuf"),
    [
        ({}, False, False),
        ({"sys/module/nvidia_peermem/refcnt": "0"}, True, False),
        (
            {
                "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module",
                "proc/sys/kernel/osrelease": "5.15.0-91-generic",
            },
            False,
            True,
        ),
        (
            {
                "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module",
                "proc/sys/kernel/osrelease": "6.8.0",
            },
            False,
            False,
        ),
    ],
)
def test_gpudirect_needs_the_module_or_an_open_driver_on_a_new_kernel(
    tmp_path: Path, files: dict[str, str], peermem: bool, dmabuf: bool
) -> None:
    write(tmp_path, **files)
    told = network_facts.gpudirect(str(tmp_path))
    assert (told["peermem"], told["dmabuf"]) == (peermem, dmabuf)


def test_plugins_are_found_where_images_and_the_linker_keep_them(tmp_path: Path) -> None:
    names = ("opt/amazon/ofi-nccl/lib/libnccl-net.so", "opt/mine/libnccl-net-mine.so")
    write(tmp_path, **dict.fromkeys(names, ""), **{"etc/ld.so.conf.d/mine.conf": "/opt/mine"})
    assert network_facts.plugins(str(tmp_path)) == [str(tmp_path / name) for name in names]


def test_what_the_machine_sets_is_told_with_its_place() -> None:
    conf = "# NCCL_DEBUG=INFO\nNCCL_SOCKET_IFNAME==ens1f0\nNCCL_IB_HCA=mlx5_0\n"
    told = network_facts.preset({"NCCL_IB_HCA": "mlx5_1", "PATH": "/bin"}, conf)
    assert [(item["name"], item["value"]) for item in told] == [
        ("NCCL_IB_HCA", "mlx5_1"),
        ("NCCL_SOCKET_IFNAME", "=ens1f0"),
    ]


def test_ports_of_containers_come_and_go_and_are_left_out() -> None:
    def veth(name: str, **address: Any) -> dict[str, Any]:
        kind = {"linkinfo": {"info_kind": "veth"}, "link_type": "ether"}
        given = [{"family": "inet", "prefixlen": 24, **address}] if address else []
        return {"ifname": name, "flags": ["UP"], "mtu": 1500, **kind, "addr_info": given}

    links = [veth("veth1"), veth("veth2", local="fe80::1", scope="link"), veth("taken")]
    links.append(veth("eth0", local="10.0.0.2", scope="global"))
    told = network_facts.interfaces(links, {"eth0": 10000}, {"taken"})
    assert [item["name"] for item in told] == ["eth0", "taken"]
    assert told[0]["speed"] is None  # the kernel makes it up


def test_a_text_of_ip_without_links_is_no_answer() -> None:
    for text in ("", "[]", "Object unknown"):
        with pytest.raises(ValueError, match=r".*"):
            network_facts.split(text)


def test_a_gateway_of_another_family_is_told() -> None:
    told = {"dst": "1.2.3.4", "dev": "lan0", "prefsrc": "9.9.9.9", "via": {"host": "fe80::1"}}
    assert network_facts.route(told)["via"] == "fe80::1"


def test_a_name_that_nobody_knows_is_no_address() -> None:
    address, problem = network_facts.resolve("no-such-node.invalid")
    assert address is None
    assert "not known" in problem


def test_a_jobs_environment_has_the_file_below_everything_else(tmp_path: Path) -> None:
    file = tmp_path / "nccl.env"
    lines = ["# it's why", "NCCL_SOCKET_IFNAME='=eth0'", "NCCL_IB_HCA='=a:1,b:1'", "A=file", "B=f"]
    file.write_text("\n".join(lines), encoding="utf-8")
    request = {
        **dict.fromkeys(("run_id", "stage", "node", "marker"), "x"),
        "env": {"A": "asked"},
        "secret_env": {},
        "path": [],
        "env_file": str(file),
    }
    env = launch.environment(request, {"B": "machine"})
    assert (env["A"], env["B"]) == ("asked", "machine")
    assert (env["NCCL_SOCKET_IFNAME"], env["NCCL_IB_HCA"]) == ("=eth0", "=a:1,b:1")
    assert "NCCL_SOCKET_IFNAME" not in launch.environment({**request, "env_file": ""}, {})
    assert launch.env_file(str(tmp_path / "none")) == {}
