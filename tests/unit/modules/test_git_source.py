"""The module ``git_source`` on real repositories: clone, move, archive, refuse."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]
BRANCHES = ("core_r0.12.0", "core_r0.13.0", "core_r0.15.0")


def git(at: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(at), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A repository with a branch of two commits for each release of Megatron."""
    path = tmp_path / "up's stream"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    for branch in ("main", *BRANCHES):
        if branch != "main":
            git(path, "checkout", "--quiet", "-b", branch, "main")
        for number in range(2):
            (path / "megatron.py").write_text(f"{branch} {number}\n", encoding="utf-8")
            git(path, "add", ".")
            git(path, "commit", "--quiet", "-m", f"{branch} {number}")
    return path


def head(upstream: Path, name: str) -> str:
    return git(upstream, "rev-parse", name)


def test_a_branch_is_cloned_trusted_and_left_alone_the_second_time(
    run_module: RunModule, upstream: Path, tmp_path: Path
) -> None:
    given = {
        "path": str(tmp_path / "tree"),
        "repository": str(upstream),
        "branch": "core_r0.13.0",
    }
    assert run_module("git_source", check=True, **given)["changed"] is True
    assert not (tmp_path / "tree").exists()
    told = run_module("git_source", **given)
    assert told["changed"] is True
    assert told["head"] == head(upstream, "core_r0.13.0")
    assert str(tmp_path / "tree") in (tmp_path / "gitconfig").read_text(encoding="utf-8")
    (upstream / "megatron.py").write_text("newer\n", encoding="utf-8")
    git(upstream, "checkout", "--quiet", "--force", "core_r0.13.0")
    git(upstream, "commit", "--quiet", "--allow-empty", "-m", "newer")
    shutil.move(upstream, tmp_path / "away")  # nobody is asked where the branch is there
    again = run_module("git_source", **given)
    assert (again["changed"], again["head"]) == (False, told["head"])
    shutil.move(tmp_path / "away", upstream)
    assert run_module("git_source", check=True, update=True, **given)["changed"] is True
    newer = run_module("git_source", update=True, **given)
    assert (newer["changed"], newer["head"]) == (True, head(upstream, "core_r0.13.0"))
    assert run_module("git_source", update=True, **given)["changed"] is False


def test_another_line_moves_the_tree_to_its_branch(
    run_module: RunModule, upstream: Path, tmp_path: Path
) -> None:
    given = {"path": str(tmp_path / "tree"), "repository": str(upstream)}
    for branch in BRANCHES:
        told = run_module("git_source", branch=branch, **given)
        assert (told["changed"], told["head"]) == (True, head(upstream, branch))
        text = (tmp_path / "tree" / "megatron.py").read_text(encoding="utf-8")
        assert text == f"{branch} 1\n"


def test_a_commit_may_be_named_by_its_beginning_and_must_be_of_the_branch(
    run_module: RunModule, upstream: Path, tmp_path: Path
) -> None:
    earlier = head(upstream, "core_r0.15.0~1")
    given = {
        "path": str(tmp_path / "tree"),
        "repository": str(upstream),
        "branch": "core_r0.15.0",
    }
    told = run_module("git_source", commit=earlier[:8], **given)
    assert (told["changed"], told["head"]) == (True, earlier)
    assert run_module("git_source", commit=earlier[:8], **given)["changed"] is False
    other = head(upstream, "core_r0.12.0")
    refused = run_module("git_source", commit=other, **{**given, "path": str(tmp_path / "new")})
    assert refused["failed"] is True
    assert "core_r0.15.0" in refused["msg"]
    assert other in refused["msg"]
    assert not (tmp_path / "new").exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["gitconfig", "tree", "up's stream"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"branch": "core_r0.14.0"}, "branches core_r0.12.0, core_r0.13.0, core_r0.15.0"),
        ({"commit": "6dbe4cf6"}, "no such commit"),
        ({}, "a branch or a commit"),
        ({"branch": "main", "archive": "/some.tar"}, "a repository or an archive"),
    ],
)
def test_what_the_source_does_not_have_is_refused(
    run_module: RunModule, upstream: Path, tmp_path: Path, given: dict[str, str], found: str
) -> None:
    told = run_module("git_source", path=str(tmp_path / "tree"), repository=str(upstream), **given)
    assert told["failed"] is True
    assert found in told["msg"]
    assert "remedy" in told["msg"]
    assert not (tmp_path / "tree").exists()


def test_what_is_someone_elses_is_not_touched(
    run_module: RunModule, upstream: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    given = {"path": str(tree), "repository": str(upstream)}
    run_module("git_source", branch="core_r0.13.0", **given)
    (tree / "megatron.py").write_text("mine\n", encoding="utf-8")
    assert run_module("git_source", branch="core_r0.13.0", **given)["changed"] is False
    told = run_module("git_source", branch="core_r0.15.0", **given)
    assert "changes in megatron.py" in told["msg"]
    assert (tree / "megatron.py").read_text(encoding="utf-8") == "mine\n"
    git(tree, "commit", "--quiet", "--all", "-m", "mine")
    told = run_module("git_source", branch="core_r0.13.0", **given)
    assert "which is nowhere else" in told["msg"]
    told = run_module("git_source", branch="main", **{**given, "repository": str(tmp_path)})
    assert f"one of {upstream}" in told["msg"]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("", encoding="utf-8")
    told = run_module("git_source", branch="main", **{**given, "path": str(folder)})
    assert "something else" in told["msg"]
    assert [item.name for item in folder.iterdir()] == ["file"]


# Archives.


def packed(tmp_path: Path, folder: Path, name: str = "tree.tar.gz") -> str:
    path = tmp_path / name
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, arcname="Megatron-LM")
    return str(path)


def test_an_archive_with_its_repository_is_looked_at(
    run_module: RunModule, upstream: Path, tmp_path: Path
) -> None:
    git(upstream, "checkout", "--quiet", "core_r0.12.0")
    given = {"path": str(tmp_path / "tree"), "archive": packed(tmp_path, upstream)}
    assert run_module("git_source", check=True, branch="core_r0.12.0", **given)["changed"] is True
    assert not (tmp_path / "tree").exists()
    told = run_module("git_source", branch="core_r0.12.0", **given)
    assert (told["changed"], told["head"]) == (True, head(upstream, "core_r0.12.0"))
    again = run_module("git_source", branch="core_r0.12.0", **given)
    assert (again["changed"], again["head"]) == (False, told["head"])
    for other in ({}, {"path": str(tmp_path / "new")}):
        refused = run_module("git_source", branch="core_r0.13.0", **{**given, **other})
        assert "branch core_r0.13.0" in refused["msg"]
        assert told["head"] in refused["msg"]
    assert not (tmp_path / "new").exists()


def test_a_plain_archive_needs_a_record_or_gits_comment(
    run_module: RunModule, upstream: Path, tmp_path: Path
) -> None:
    commit = head(upstream, "core_r0.15.0")
    by_git = tmp_path / "by-git.tar"
    git(upstream, "archive", "--prefix=M/", f"--output={by_git}", commit)
    given = {"path": str(tmp_path / "tree"), "archive": str(by_git)}
    refused = run_module("git_source", branch="core_r0.15.0", **given)
    assert f"found: commit {commit}" in refused["msg"]
    told = run_module("git_source", branch="core_r0.15.0", commit=commit[:9], **given)
    assert (told["changed"], told["head"]) == (True, commit)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "megatron.py").write_text("", encoding="utf-8")
    given = {"path": str(tmp_path / "other"), "archive": packed(tmp_path, plain)}
    assert "neither" in run_module("git_source", branch="core_r0.15.0", **given)["msg"]
    record = {"commit": commit, "branch": "core_r0.15.0"}
    (plain / ".swiftops-source.json").write_text(json.dumps(record), encoding="utf-8")
    given["archive"] = packed(tmp_path, plain, "recorded.tar.gz")
    told = run_module("git_source", branch="core_r0.15.0", **given)
    assert (told["changed"], told["head"]) == (True, commit)
    assert run_module("git_source", branch="core_r0.15.0", **given)["changed"] is False
    assert "core_r0.12.0" in run_module("git_source", branch="core_r0.12.0", **given)["msg"]


@pytest.mark.parametrize("name", ["../out", "M/../../out", "/out", "two"])
def test_an_archive_that_leaves_its_folder_is_refused(
    run_module: RunModule, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as file:
        for entry in ("M/fine", name):
            file.addfile(tarfile.TarInfo(entry), io.BytesIO())
    inner = tmp_path / "inner" / "deeper"
    told = run_module("git_source", path=str(inner / "tree"), archive=str(path), commit="a1")
    assert told["failed"] is True
    assert list(inner.iterdir()) == []
    assert not (tmp_path / "out").exists()
