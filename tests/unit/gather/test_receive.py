"""A gather on this machine: whole, without optimizer, again, after a cut, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from bench.checkpoints import Made
from pyswiftops.planner.gathering import Options, Target, choose, plan_gather

pytestmark = pytest.mark.slow  # torch writes the checkpoints

Told = Callable[[], dict[str, Any]]
Utils = Callable[[str], ModuleType]


def ask(told: Told, dest: Path, **options: Any) -> dict[str, Any]:
    """A request for a target that is none of the sources."""
    ways = {f"node-{number}": {"remote": None, "python": sys.executable} for number in (1, 2, 3)}
    copies = choose(told(), "", time.time()).copies
    found = plan_gather(copies, ways, Target("controller", str(dest)), Options(**options))
    return dict(found.request)


@pytest.fixture
def gather(utils: Utils) -> Callable[[dict[str, Any]], dict[str, Any]]:
    request, program = utils("request"), utils("gather")
    return lambda asked: program.gather(request.Request.from_dict(asked))


Gather = Callable[[dict[str, Any]], dict[str, Any]]


def same(made: Made, dest: Path) -> bool:
    return all(
        (dest / path.relative_to(folder)).read_bytes() == path.read_bytes()
        for folder in made.folders
        for path in folder.rglob("*")
        if path.is_file()
    )


def staging(dest: Path) -> Path:
    return dest.with_name(f".{dest.name}.gather")


def test_all_files_arrive_as_they_are(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "out" / "checkpoint-10"
    answer = gather(ask(told, dest))
    assert same(made, dest)
    assert answer["moved"] == answer["bytes"] > made.bytes
    assert set(answer["by_node"]) == {"node-1", "node-2", "node-3"}
    assert not staging(dest).exists()


def test_a_second_gather_moves_nothing_and_a_changed_file_is_moved_anew(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "checkpoint-10"
    gather(ask(told, dest))
    assert gather(ask(told, dest))["moved"] == 0
    shard = made.shard(1)
    shard.write_bytes(bytes(reversed(shard.read_bytes())))
    answer = gather(ask(told, dest))
    assert answer["moved"] == shard.stat().st_size
    assert same(made, dest)


def test_a_byte_that_flipped_at_the_target_is_found_when_asked(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "checkpoint-10"
    gather(ask(told, dest))
    victim = dest / made.iter_dir / "__1_0.distcp"
    times = victim.stat()
    with victim.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff" if made.shard(1).read_bytes()[1000] != 0xFF else b"\x00")
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert gather(ask(told, dest))["moved"] == 0  # sizes and times say nothing
    gather(ask(told, dest, check=True))
    assert same(made, dest)


def test_what_a_cut_gather_left_is_not_sent_again(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "checkpoint-10"
    part = staging(dest) / made.iter_dir / "__2_0.distcp"
    part.parent.mkdir(parents=True)
    part.write_bytes(made.shard(2).read_bytes()[:-1000])
    whole = sum(path.stat().st_size for folder in made.folders for path in folder.rglob("*.*"))
    answer = gather(ask(told, dest))
    assert same(made, dest)
    assert answer["moved"] < whole


def test_half_a_file_that_is_another_is_replaced(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "checkpoint-10"
    part = staging(dest) / made.iter_dir / "__2_0.distcp"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * (made.shard(2).stat().st_size + 5000))
    (staging(dest) / "from-another-gather").write_text("x")
    gather(ask(told, dest))
    assert same(made, dest)
    assert not (dest / "from-another-gather").exists()


def test_weights_alone_are_a_valid_checkpoint_with_the_same_bits(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "checkpoint-10"
    answer = gather(ask(told, dest, weights_only=True))
    assert answer["moved"] < made.bytes / 6
    assert answer["left_out"] > 5 * answer["moved"]
    loaded = {name: torch.zeros_like(values) for name, values in made.weights.items()}
    dcp.load(loaded, checkpoint_id=dest / made.iter_dir, no_dist=True)
    assert all(torch.equal(loaded[name], values) for name, values in made.weights.items())
    described = dcp.FileSystemReader(dest / made.iter_dir).read_metadata()
    assert set(described.state_dict_metadata) == set(made.weights)
    assert gather(ask(told, dest, weights_only=True))["moved"] == 0


def test_a_file_that_changes_while_it_is_read_gets_no_name(
    told: Told, made: Made, utils: Utils, gather: Gather, tmp_path: Path
) -> None:
    asked = ask(told, tmp_path / "checkpoint-10")
    with made.shard(1).open("ab") as file:
        file.write(b"more")  # training still writes it
    with pytest.raises(utils("errors").GatherError, match=r"was listed with .* training may still"):
        gather(asked)
    assert not (tmp_path / "checkpoint-10").exists()


def test_a_file_that_vanished_is_told(
    told: Told, made: Made, utils: Utils, gather: Gather, tmp_path: Path
) -> None:
    asked = ask(told, tmp_path / "checkpoint-10")
    made.shard(2, 1).unlink()
    with pytest.raises(utils("errors").GatherError, match=r"node-3: cannot read .*__2_1.distcp"):
        gather(asked)


def test_names_with_spaces_quotes_and_newlines_arrive(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    odd = made.folders[1] / made.iter_dir / "a b'c\"d\n$(touch x);模型"
    odd.write_text("odd")
    dest = tmp_path / "to a place" / 'it\'s "here"'
    gather(ask(told, dest))
    assert same(made, dest)


def test_a_link_to_a_shard_is_followed_and_one_out_of_the_target_is_not_written_through(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    moved = tmp_path / "big-disk.distcp"
    made.shard(1).rename(moved)
    made.shard(1).symlink_to(moved)
    dest = tmp_path / "checkpoint-10"
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (dest / made.iter_dir).mkdir(parents=True)
    (dest / made.iter_dir / "__1_0.distcp").symlink_to(outside)
    with pytest.raises(Exception, match="a link that leads out of"):
        gather(ask(told, dest))
    assert outside.read_text() == "mine"


def test_names_that_lead_out_of_the_folder_are_refused(utils: Utils, tmp_path: Path) -> None:
    entry = {"size": 1, "mtime_ns": 1}
    part = {"node": "node-1", "path": "/", "files": {"../../etc/passwd": entry}}
    with pytest.raises(utils("errors").GatherError, match="stays inside the folder"):
        utils("request").Request.from_dict({"parts": [part], "dest": str(tmp_path / "x")})


def test_a_second_gather_at_once_is_refused(
    told: Told, utils: Utils, gather: Gather, tmp_path: Path
) -> None:
    dest = tmp_path / "checkpoint-10"
    program = utils("gather")
    with (
        program._locked(staging(dest)),
        pytest.raises(utils("errors").GatherError, match="another one is at work"),
    ):
        gather(ask(told, dest))


def far(utils: Utils, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a program read the files of this machine too, as it does elsewhere behind ssh."""
    monkeypatch.setattr(utils("stream"), "Near", utils("stream").Stream)


def test_a_program_of_its_own_sends_the_same(
    told: Told, made: Made, utils: Utils, gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    far(utils, monkeypatch)
    dest = made.folders[0].parents[1] / "checkpoint-10"
    gather(ask(told, dest))
    assert same(made, dest)
    gather(ask(told, dest, check=True))
    assert same(made, dest)


def test_bytes_that_change_on_their_way_are_not_written(
    told: Told, utils: Utils, gather: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The far end lies about its bytes: it hashes them, then sends others."""
    far(utils, monkeypatch)
    stream = utils("stream")
    honest = stream._program()
    lying = honest.replace(b"self.emit(message, data)", b"self.emit(message, bytes(len(data)))")
    assert lying != honest
    monkeypatch.setattr(stream, "_program", lambda: lying)
    with pytest.raises(utils("errors").GatherError, match="not what was hashed there"):
        gather(ask(told, tmp_path / "checkpoint-10"))
    assert not (tmp_path / "checkpoint-10").exists()


def test_without_xxhash_blake2b_proves(
    told: Told, made: Made, utils: Utils, gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    far(utils, monkeypatch)
    monkeypatch.setattr(utils("sender"), "hashes", lambda: {"blake2b": blake2b})
    dest = made.folders[0].parents[1] / "checkpoint-10"
    gather(ask(told, dest))
    assert same(made, dest)


def blake2b(data: Any) -> Any:
    import hashlib  # noqa: PLC0415

    return hashlib.blake2b(data, digest_size=16)


def test_the_tracker_is_the_iterations_own(
    told: Told, made: Made, gather: Gather, tmp_path: Path
) -> None:
    """Before ms-swift 3.12 one tracker serves all iterations of an output folder."""
    (made.folders[0] / "latest_checkpointed_iteration.txt").write_text("20")
    dest = tmp_path / "elsewhere"
    gather(ask(told, dest))
    assert (dest / "latest_checkpointed_iteration.txt").read_text() == "10"
    assert gather(ask(told, dest))["moved"] == 0


def test_the_program_tells_progress_and_its_answer(told: Told, made: Made, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(ask(told, tmp_path / "checkpoint-10")))
    argv = [sys.executable, "-m", "pyswiftops.checkpoints.receive", str(file)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("gather: ")
    assert "MB/s" in lines[0]
    assert lines[-1].startswith("gathered 10 files")
    assert json.loads(file.with_suffix(".answer").read_text())["moved"] > made.bytes


def test_the_program_says_in_one_line_why_not(told: Told, made: Made, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(ask(told, tmp_path / "checkpoint-10")))
    made.shard(1).unlink()
    argv = [sys.executable, "-m", "pyswiftops.checkpoints.receive", str(file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: expected: ")
    assert "remedy: " in line
