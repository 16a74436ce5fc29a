"""What a node tells: parsers on what real machines printed, and nodes that meet over sockets."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.content import module_util

from .putting import recorded

gpus, kernel_log = module_util("preflight.gpus"), module_util("preflight.kernel_log")
names, services = module_util("preflight.names"), module_util("preflight.services")
storage, meeting = module_util("preflight.storage"), module_util("preflight.meeting")
limits, look = module_util("preflight.limits"), module_util("preflight.look")
Meetings = dict[str, dict[str, Any]]


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def meet(tmp_path: Path, *nodes: str, shared: bool = True, absent: str = "") -> Meetings:
    """Nodes that meet in threads; ``absent`` is named to them and does not come."""
    ports = iter(free_ports(2 * len(nodes)))
    request = {
        name: {
            "address": "127.0.0.1",
            "ports": [next(ports), next(ports)],
            "root": str(tmp_path / name),
        }
        for name in nodes
    }
    came: Meetings = {}

    def one(name: str) -> None:
        common = tmp_path / ("shared" if shared else f"shared-{name}")
        for folder in (common, tmp_path / name):
            folder.mkdir(exist_ok=True)
        probes = meeting.Probes(name, "token", [str(common), str(tmp_path / name)])
        came[name] = meeting.Meeting(name, "token", request, probes, 6.0).hold()
        probes.remove()

    threads = [threading.Thread(target=one, args=(name,)) for name in nodes if name != absent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return came


def test_nodes_reach_each_other_on_all_ports_and_go_at_once(tmp_path: Path) -> None:
    came = meet(tmp_path, "a", "b", "c")
    for told in came.values():
        for peer in told["peers"].values():
            assert set(peer["ports"].values()) == {""}
            assert len(peer["came"]) == 2
            assert abs(peer["offset"][0]) <= peer["offset"][1] + 0.01
        assert told["seconds"] < 3
    assert list(tmp_path.rglob(".swiftops*")) == []


def test_a_shared_folder_is_seen_and_one_of_its_own_is_not(tmp_path: Path) -> None:
    peer = meet(tmp_path, "a", "b")["a"]["peers"]["b"]
    assert peer["shared"] == {str(tmp_path / "shared"): True}
    assert peer["sees_root"]  # both are folders of this machine
    apart = meet(tmp_path, "a", "b", shared=False)["a"]["peers"]["b"]
    assert apart["shared"] == {str(tmp_path / "shared-a"): False}


def test_a_node_that_does_not_come_is_waited_for_and_not_longer(tmp_path: Path) -> None:
    came = meet(tmp_path, "a", "b", "c", absent="c")
    told = came["a"]["peers"]["c"]
    assert all(told["ports"].values())
    assert not told["there"]
    assert 5 < came["a"]["seconds"] < 9
    assert set(came["a"]["peers"]["b"]["ports"].values()) == {""}


def test_a_look_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(look.limits, "look", broken)
    own = {
        "address": "127.0.0.1",
        "ports": free_ports(2),
        "root": str(tmp_path),
        "python": sys.executable,
        "env": {},
        "paths": {"root": str(tmp_path)},
        "taken": [],
        "model": "",
    }
    request = {"token": "t", "seconds": 5, "device": "cpu", "probes": [], "packages": []}
    told = look.look("a", {**request, "nodes": {"a": own}})
    assert told["limits"] == {"error": "OSError: no such thing"}
    assert told["shm"]["size"] > 0
    assert told["disks"]["root"]["writable"]


def test_a_driver_that_says_so_without_an_xid_is_an_xid_79() -> None:
    told = kernel_log.parse(recorded("xid-off-the-bus.txt"))["xid"]
    assert [(item["gpu"], item["code"]) for item in told] == [("0000:b3:00.0", 79)]


def test_xids_name_their_gpu_and_what_was_said() -> None:
    told = kernel_log.parse(recorded("xid-nvlink.txt"))["xid"]
    assert [(item["gpu"], item["code"]) for item in told] == [
        ("0000:dc:00", 45),
        ("0000:ed:00", 45),
        ("0000:ba:00", 45),
    ]
    assert told[1]["detail"].endswith("caused by previous Xid 145")
    assert kernel_log.parse(recorded("xid-row-remapper.txt"))["xid"][0]["at"] == 680111.646286


def test_rows_of_nvidia_smi_become_data_and_unknown_values_nothing() -> None:
    text = (
        "0, GPU-30667114, NVIDIA RTX A5000, 24564, 610.57.04, [N/A], [N/A], Enabled\n"
        "1, GPU-fbe2dd5d, NVIDIA H100 80GB HBM3, 81559, 610.57.04, 2, Enabled, Disabled\n"
        "No devices were found\n"
    )
    first, second = gpus.parse_gpus(text)
    assert (first["memory_bytes"], first["uncorrected"], first["mig"]) == (24564 << 20, None, False)
    assert (second["uncorrected"], second["mig"], second["persistence"]) == (2, True, False)
    assert gpus.parse_remapped("GPU-1, Yes, No\n") == {"GPU-1": {"pending": True, "failure": False}}
    assert gpus.parse_processes("7, GPU-1, 512, /usr/bin/a, b\n")[0]["program"] == "/usr/bin/a, b"


def test_versions_of_the_driver(tmp_path: Path) -> None:
    assert gpus.parse_cuda(recorded("banner.txt")) == "12.2"
    file = tmp_path / "version"
    file.write_text(recorded("module-version.txt"), encoding="utf-8")
    assert gpus.kernel_module(file) == "520.56.06"


def test_passwords_of_proxies_are_not_told() -> None:
    told = names.proxies({"HTTP_PROXY": "http://me:secret@proxy:3128", "https_proxy": ""})
    assert told == {"http_proxy": "http://proxy:3128"}


def test_hosts_are_read_without_comments() -> None:
    assert names.parse_hosts("127.0.1.1 a b # c\n\n10.0.0.1 a\n") == {
        "a": ["127.0.1.1", "10.0.0.1"],
        "b": ["127.0.1.1"],
    }


def test_settings_of_unattended_upgrades() -> None:
    text = '// APT::Periodic::Unattended-Upgrade "0";\nAPT::Periodic::Unattended-Upgrade "1";\n'
    assert services.parse_periodic(text) == {"APT::Periodic::Unattended-Upgrade": "1"}
    listed = 'Unattended-Upgrade::Package-Blacklist {\n  "nvidia";\n};'
    assert services.leaves_nvidia(listed)
    assert not services.leaves_nvidia(listed.replace('"nvidia"', '// "nvidia"'))


def test_settings_of_the_engine(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    file = tmp_path / "docker" / "daemon.json"
    file.write_text('{"exec-opts": ["native.cgroupdriver=systemd"], "runtimes": {"nvidia": {}}}')
    told = services.engine(tmp_path)
    assert (told["cgroup_driver"], told["nvidia_runtime"], told["cdi"]) == ("systemd", True, False)
    file.write_text("{")
    assert "daemon.json" in services.engine(tmp_path)["error"]


def test_the_mount_of_a_path_is_the_innermost(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"/dev/a / ext4 rw 0 0\nfs:/x {tmp_path}/in nfs4 rw 0 0\n", encoding="utf-8")
    assert storage.mount_of(f"{tmp_path}/in/deep", str(table))["type"] == "nfs4"
    assert storage.mount_of(f"{tmp_path}/other", str(table))["type"] == "ext4"


def test_copies_of_a_model_are_the_same_whatever_a_hub_noted_beside_them(tmp_path: Path) -> None:
    told = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / ".cache").mkdir(parents=True)
        (folder / ".cache" / "download.metadata").write_text(name, encoding="utf-8")
        (folder / "config.json").write_text("{}", encoding="utf-8")
        told.append(storage.inputs([str(folder)])[str(folder)])
    assert told[0] == told[1] == {"bytes": 2, "rows": None, "blake2b": told[0]["blake2b"]}
    (folder / "config.json").write_text("[]", encoding="utf-8")
    assert storage.inputs([str(folder)])[str(folder)] != told[0]
    assert "found none" in storage.inputs([str(tmp_path / "x")])[str(tmp_path / "x")]["error"]


def test_what_is_too_large_to_be_hashed_is_told_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "INPUT_BYTES", 4)
    for name, text in (("a", "12345\n"), ("b", "54321\n"), ("c", "1\n2\n")):
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    told = [storage.inputs([path])[path] for path in map(str, sorted(tmp_path.glob("*.jsonl")))]
    assert [item["rows"] for item in told] == [None, None, 2]
    assert len({item["bytes"] for item in told}) == 2
