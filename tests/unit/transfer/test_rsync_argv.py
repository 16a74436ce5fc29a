from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import rsync, transfer


def test_the_whole_command() -> None:
    remote = rsync.Remote("/data/it's; $(id) [1]", "10.0.0.2", 2333, "root", ("-i", 'a "b" key'))
    assert rsync.command(remote, Path("/data/.pull-1"), "50m") == [
        "rsync",
        "-s",
        "--times",
        "--copy-links",
        "--partial",
        "--inplace",
        "--from0",
        "--files-from=-",
        "--bwlimit=50m",
        "-e",
        '"ssh" "-o" "BatchMode=yes" "-p" "2333" "-i" "a ""b"" key"',
        "--",
        "root@10.0.0.2:/",
        "/data/.pull-1/",
    ]


def test_what_is_left_out_is_left_to_the_configuration_of_ssh() -> None:
    remote = rsync.Remote("/data", "node-2")
    assert rsync.rsh(remote) == '"ssh" "-o" "BatchMode=yes"'
    assert "StrictHostKeyChecking" not in " ".join(rsync.command(remote, Path("/x")))
    assert not any(a.startswith("--bwlimit") for a in rsync.command(remote, Path("/x")))


def test_the_source_folder_travels_where_nothing_expands_it() -> None:
    remote = rsync.Remote("//data/./a*[1]/../b?/", "node-2")
    assert rsync.file_list(remote, ["x;y", "new\nline", "模型"]) == (
        b"/data/b?/./x;y\0/data/b?/./new\nline\0/data/b?/./" + "模型".encode() + b"\0"
    )
    assert rsync.file_list(rsync.Remote("/", "n"), ["etc/x"]) == b"/./etc/x\0"


@pytest.mark.parametrize("host", ["", "-oProxyCommand=id", "a b", "a;b", "a@b", "h:/etc", "a\nb"])
def test_hosts_that_would_be_options_are_refused(host: str) -> None:
    with pytest.raises(transfer.PullError, match="expected a host name"):
        rsync.Remote("/data", host)


@pytest.mark.parametrize("user", ["", "-l", "a b", "a@b", "$(id)"])
def test_users_that_would_be_options_are_refused(user: str) -> None:
    with pytest.raises(transfer.PullError, match="expected a user name"):
        rsync.Remote("/data", "node-2", user=user)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_out_of_range_are_refused(port: int) -> None:
    with pytest.raises(transfer.PullError, match="expected a port from 1 to 65535"):
        rsync.Remote("/data", "node-2", port=port)


@pytest.mark.parametrize("path", ["", "data", "~/data", "/a\0b"])
def test_source_paths_that_are_not_absolute_are_refused(path: str) -> None:
    with pytest.raises(transfer.PullError, match="expected an absolute source path"):
        rsync.Remote(path, "node-2")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("node-2.example", "u@node-2.example"),
        ("fe80::1%eth0", "u@[fe80::1%eth0]"),
        ("[::1]", "u@[::1]"),
    ],
)
def test_addresses(host: str, address: str) -> None:
    assert rsync.Remote("/data", host, user="u").address == address


def test_the_staging_folder_is_beside_dest_and_the_same_in_every_run(tmp_path: Path) -> None:
    one = rsync.Remote("/data/a", "node-2")
    other = rsync.Remote("/data/b", "node-2")
    dest = tmp_path / "dest"
    staging = rsync.staging_folder(one, dest)
    assert staging.parent == tmp_path
    assert staging.name.startswith(".pull-")
    assert staging == rsync.staging_folder(one, dest)
    assert staging != rsync.staging_folder(other, dest)


def test_a_dest_that_is_a_disk_of_its_own_is_staged_in() -> None:
    dest = Path("/dev/shm")  # noqa: S108 - a mount point that every Linux has
    assert dest.stat().st_dev != dest.parent.stat().st_dev
    assert rsync.staging_folder(rsync.Remote("/data", "node-2"), dest).parent == dest
