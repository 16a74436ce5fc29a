"""The module ``fetched``: a folder has its name only once it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, rsync, transfer

from pyswiftops.paths import FetchedFolder

RunModule = Callable[..., dict[str, Any]]
FILES = {"config.json": b"{}", "模型/w 1.safetensors": b"w" * 1000}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "source"


@pytest.fixture
def ask(run_module: RunModule, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    place = FetchedFolder(str(tmp_path / "hub" / "Tiny-0.1B"))
    where = {"folder": place.folder, "staging": place.staging, "record": place.record}

    def call(state: str, **more: Any) -> dict[str, Any]:
        return run_module("fetched", **where, state=state, **more)

    return call


def pull(source: Path, dest: Path) -> dict[str, Any]:
    files = manifest.build(str(source))["files"]
    checked = manifest.validated(files)
    transfer.pull_local(source, dest, checked, transfer.plan(dest, checked, "true"), "true")
    return dict(files)


def test_a_folder_is_complete_once_it_is_settled_and_not_when_a_file_changes(
    ask: Callable[..., dict[str, Any]], source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hub" / "Tiny-0.1B"
    files = manifest.build(str(source))["files"]
    nothing = ask("read", files=files)
    assert (nothing["complete"], nothing["present"], nothing["lacking"]) == (False, False, 1002)
    assert ask("staged")["changed"]
    pull(source, folder.with_name(".Tiny-0.1B.fetching"))
    staged = ask("read", files=files)
    assert (staged["complete"], staged["lacking"]) == (False, 0)
    assert staged["room"] == staged["free"] + 1002
    assert not folder.exists()
    assert ask("settled", files=files)["complete"]
    assert not ask("settled", files=files)["changed"]
    assert not folder.with_name(".Tiny-0.1B.fetching").exists()
    assert ask("read")["files"] == files

    (folder / "config.json").write_bytes(b"[]")
    assert not ask("read")["complete"]
    changed = ask("read", files=files)
    assert (changed["complete"], changed["lacking"]) == (False, 2)  # the other file is as it was


def test_a_source_that_has_changed_makes_the_folder_incomplete(
    ask: Callable[..., dict[str, Any]], source: Path, tmp_path: Path
) -> None:
    ask("staged")
    ask("settled", files=pull(source, tmp_path / "hub" / ".Tiny-0.1B.fetching"))
    (source / "config.json").write_bytes(b"[1]")
    assert not ask("read", files=manifest.build(str(source), hashed=False)["files"])["complete"]


def test_what_is_not_whole_gets_no_name_and_keeps_what_it_has(
    ask: Callable[..., dict[str, Any]], source: Path, tmp_path: Path
) -> None:
    staging = tmp_path / "hub" / ".Tiny-0.1B.fetching"
    ask("staged")
    files = pull(source, staging)
    (staging / "config.json").unlink()
    answer = ask("settled", files=files)
    assert answer["failed"]
    assert "what is right is kept" in answer["msg"]
    assert (staging / "模型/w 1.safetensors").read_bytes() == b"w" * 1000
    assert not (tmp_path / "hub" / "Tiny-0.1B").exists()


def test_a_new_fetch_begins_with_what_is_there_and_leaves_the_folder_as_it_is(
    ask: Callable[..., dict[str, Any]], source: Path, tmp_path: Path
) -> None:
    folder, staging = tmp_path / "hub" / "Tiny-0.1B", tmp_path / "hub" / ".Tiny-0.1B.fetching"
    ask("staged")
    ask("settled", files=pull(source, staging))
    (source / "config.json").write_bytes(b"[1, 2]")
    (source / "模型/w 1.safetensors").rename(source / "other")
    ask("staged")
    files = pull(source, staging)
    assert (folder / "config.json").read_bytes() == b"{}"
    assert (folder / "模型/w 1.safetensors").exists()
    assert ask("settled", files=files)["complete"]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {"config.json", "other"}


def test_a_record_that_cannot_be_read_is_none(
    ask: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "hub" / "Tiny-0.1B").mkdir(parents=True)
    for text in ("", "{", "[]", '{"files": {"../x": {"size": 1}}}'):
        (tmp_path / "hub" / ".Tiny-0.1B.json").write_text(text, encoding="utf-8")
        assert (ask("read")["complete"], ask("read")["files"]) == (False, {})


def test_names_travel_to_rsync_one_by_one_and_unquoted() -> None:
    remote = rsync.Remote("/data/a b", "n1", 2333, "ops", ["-i", "/k e"])
    argv = rsync.push_command(Path("/m/x y"), remote)
    assert argv[-3:] == ["--", "/m/x y/", "ops@n1:/data/a b/"]
    assert "-s" in argv  # the far side does not split or expand the path
    assert "--from0" in argv
    assert argv[argv.index("-e") + 1].endswith('"-p" "2333" "-i" "/k e"')
