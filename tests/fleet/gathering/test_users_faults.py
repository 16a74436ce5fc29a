"""Faults as a user meets them: ``swiftops ckpt`` says what is wrong, and nothing is lost."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from bench.checkpoints import make
from bench.container_nodes import run

from .user import User

pytestmark = pytest.mark.fleet

INDEX = "iter_0000010/.metadata"
HOURS = 7200


def test_it_is_listed_gathered_and_gathered_again_for_nothing(user: User) -> None:
    (ledger,) = user.ckpt("ls", "old", "--json").told
    (found,) = ledger["checkpoints"]
    assert found["complete"]
    user.gathered()
    assert user.gathered() == 0


def test_a_missing_index_is_refused(user: User) -> None:
    user.lab.made.index.unlink()
    user.refused("iter_0000010/.metadata on a node", "node-1, node-2, node-3")


def test_two_different_indexes_are_refused(user: User) -> None:
    other = user.lab.made.folders[1] / INDEX
    other.write_bytes(user.lab.made.index.read_bytes() + b"\0")
    user.refused("different ones on node-1, node-2")


def test_a_truncated_shard_is_refused(user: User) -> None:
    os.truncate(user.lab.made.shard(1), 1000)
    user.refused("__1_0.distcp", "1000 bytes", "node-2:/data/node-2/checkpoint-10")


def test_shards_of_two_iterations_are_refused(user: User) -> None:
    folder = user.lab.made.folders[2]
    (folder / "iter_0000010").rename(folder / "iter_0000020")
    user.refused("shards of one iteration", "iter_0000010, iter_0000020")


def test_a_malicious_index_is_refused_and_run_nowhere(user: User) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, ("/data/bomb",))

    user.lab.made.index.write_bytes(pickle.dumps(Bomb()))
    user.refused("mkdir", "node-1:/data/node-1/checkpoint-10")
    (ledger,) = user.ckpt("ls", "old", "--json").told
    assert any("refused" in reason for reason in ledger["checkpoints"][0]["resume"]["reasons"])
    assert not (user.lab.data / "bomb").exists()
    assert not Path("/data/bomb").exists()


@pytest.mark.long
def test_a_node_that_is_down_and_then_back_without_its_shards(user: User) -> None:
    run("docker", "kill", user.lab.container("node-3"))
    try:
        said = user.gather()
    finally:
        user.lab.revive("node-3")
    assert said.code == 1
    assert "node-3" in said.err
    assert not user.lab.dest.parent.exists()
    lost = user.lab.data / "lost"
    user.lab.made.folders[2].rename(lost)
    user.refused("__2_0.distcp of", "__2_1.distcp of")
    lost.rename(user.lab.made.folders[2])
    user.gathered()


def test_a_node_that_comes_back_with_an_older_disk(user: User) -> None:
    """Of the same training begun anew: names and sizes are the same, the numbers are not."""
    lab = user.lab
    before = make([lab.data / "before" / name for name in lab.nodes.names], 24, 10, 256 * 1024)
    past = time.time() - HOURS
    for path in before.folders[2].rglob("*.distcp"):
        os.utime(path, (past, past))
    run("docker", "stop", "--time", "1", lab.container("node-3"))
    shutil.rmtree(lab.made.folders[2])
    before.folders[2].rename(lab.made.folders[2])
    lab.revive("node-3")
    user.refused("2 that were written up to 7", "node-3:/data/node-3/checkpoint-10", "--any-time")
    user.gathered("--any-time")


@pytest.fixture
def two_hours_ahead(user: User) -> Any:
    """The third node's clock, for whoever logs in, and for what was written there."""
    config = user.nodes.folder / "etc" / "node-3" / "sshd_config"
    plain = config.read_text(encoding="utf-8")
    library = user.nodes.inside("node-3", "sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1")
    # the kernel's times of files are those of the real clock: they are set below
    wrong = f"SetEnv LD_PRELOAD={library} FAKETIME=+{HOURS} NO_FAKE_STAT=1\n"
    config.write_text(wrong + plain, encoding="utf-8")
    ahead = time.time() + HOURS
    for path in user.lab.made.folders[2].rglob("*"):
        os.utime(path, (ahead, ahead))
    run("docker", "restart", "--time", "1", user.lab.container("node-3"))
    user.lab.revive("node-3")
    yield
    config.write_text(plain, encoding="utf-8")
    run("docker", "restart", "--time", "1", user.lab.container("node-3"))
    user.lab.revive("node-3")


@pytest.mark.usefixtures("two_hours_ahead")
def test_a_clock_that_is_wrong_is_no_older_save(user: User) -> None:
    there = float(user.nodes.inside("node-1", "ssh", "node-3", "date", "+%s"))
    assert there - time.time() > HOURS - 60
    user.gathered()


@pytest.mark.long
def test_a_save_that_goes_on_is_refused_until_it_is_done(user: User) -> None:
    """A rank of the second node writes its shard; the others have written theirs."""
    shard = user.lab.made.shard(1)
    whole = user.lab.data / "whole"
    shard.rename(whole)
    write = "for n in $(seq 0 200); do dd if=/data/whole bs=65536 count=1 skip=$n status=none; "
    write += "sleep 0.05; done >> /data/node-2/checkpoint-10/iter_0000010/__1_0.distcp"
    shard.touch()
    user.nodes.inside("node-2", "sh", "-c", f"({write}) > /dev/null 2>&1 & echo $! > /data/writer")
    user.refused("__1_0.distcp of", "found: ", "node-2:/data/node-2/checkpoint-10")
    (ledger,) = user.ckpt("ls", "old", "--json").told
    assert "it may still be written" in ledger["checkpoints"][0]["resume"]["reasons"]
    user.nodes.inside("node-2", "sh", "-c", "while kill -0 $(cat /data/writer); do sleep 0.1; done")
    assert shard.read_bytes() == whole.read_bytes()
    user.gathered()


@pytest.mark.long
def test_a_shard_that_is_written_anew_meanwhile_gets_no_name(user: User) -> None:
    again = "while :; do touch /data/node-2/checkpoint-10/iter_0000010/__1_0.distcp; done"
    user.nodes.inside("node-2", "sh", "-c", f"({again}) > /dev/null 2>&1 & echo $! > /data/writer")
    try:
        said = user.gather()
    finally:
        user.nodes.inside("node-2", "sh", "-c", "kill -9 $(cat /data/writer)")
    assert said.code == 1
    assert "__1_0.distcp" in said.err
    assert "changed" in said.err
    assert not user.lab.dest.exists()
    user.gathered()


def test_names_with_spaces_quotes_and_newlines_arrive(user: User) -> None:
    hostile = 'it\'s "a" $(touch pwned) {{ b }} \u4f60\u597d\n;x'
    for folder in user.lab.made.folders:
        place = folder.parent / hostile
        place.mkdir()
        (folder / "a 'b' \"c\" $d\ne").write_text(folder.parent.name, encoding="utf-8")
        folder.rename(place / folder.name)
    user.lab.made.folders[:] = [
        folder.parent / hostile / folder.name for folder in user.lab.made.folders
    ]
    assert user.adopt("hostile", f"/{hostile}").code == 0
    target = user.lab.data / "target" / hostile
    said = user.gather("--json", name="hostile", to=f"node-1:/data/target/{hostile}")
    assert said.told["moved"] > user.lab.made.bytes
    for path in user.lab.made.folders[0].rglob("*"):
        if path.is_file():
            found = target / path.relative_to(user.lab.made.folders[0])
            assert found.read_bytes() == path.read_bytes()


@pytest.mark.long
def test_a_link_to_a_shard_is_followed_and_one_out_of_the_target_is_not_written_through(
    user: User,
) -> None:
    shard = user.lab.made.shard(1)
    other = user.lab.data / "node-2" / "other disk"
    shard.rename(other)
    shard.symlink_to("/data/node-2/other disk")
    precious = user.lab.data / "precious"
    precious.write_text("mine", encoding="utf-8")
    into = user.lab.dest / "iter_0000010"
    into.mkdir(parents=True)
    (into / shard.name).symlink_to("/data/precious")
    said = user.gather()
    assert said.code == 1
    assert "is a link that leads out of /data/target/checkpoint-10" in said.err
    assert "Traceback" not in said.err
    assert 'File "' not in said.err
    assert precious.read_text(encoding="utf-8") == "mine"
    (into / shard.name).unlink()
    assert user.gather("--json").told["moved"] < user.lab.made.bytes / 2  # most had arrived
    assert precious.read_text(encoding="utf-8") == "mine"
    arrived = into / shard.name
    assert not arrived.is_symlink()
    assert arrived.read_bytes() == other.read_bytes()


@pytest.mark.long
def test_a_byte_that_flipped_at_the_target_is_found_when_asked(user: User) -> None:
    user.gathered()
    shard = user.lab.dest / "iter_0000010" / user.lab.made.shard(1).name
    times = shard.stat()
    with shard.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert user.gather("--json").told["moved"] == 0
    assert user.gathered("--check") >= user.lab.made.bytes


@pytest.fixture
def ops(user: User) -> str:
    """A user of all nodes who is not root, whom the fleet's key lets in."""
    make_ops = (
        "id ops 2> /dev/null || useradd -m -p '*' ops; "
        "install -d -o ops -m 700 ~ops/.ssh; "
        "install -o ops -m 600 /etc/swiftops/authorized_keys ~ops/.ssh/"
    )
    for node in user.nodes.names:
        user.nodes.inside(node, "sh", "-c", make_ops)
    return "ops"


def test_a_shard_and_a_folder_that_the_login_user_may_not_read(user: User, ops: str) -> None:
    assert user.adopt("as-ops", ssh={"user": ops}).code == 0
    to = f"controller:{user.lab.dest}"
    shard = user.lab.made.shard(1)
    shard.chmod(0o000)
    said = user.gather(name="as-ops", to=to)
    assert said.code == 1
    for text in ("node-2", shard.name, "Permission denied", "let the login user read"):
        assert text in said.err
    shard.chmod(0o644)
    shard.parent.chmod(0o000)
    said = user.gather(name="as-ops", to=to)
    shard.parent.chmod(0o755)
    assert said.code == 2
    assert "__1_0.distcp of" in said.err
    assert not user.lab.dest.exists()
    assert user.gather(name="as-ops", to=to).code == 0
    assert user.lab.whole()
