"""Which source trees a line wants, and the file that names them."""

from __future__ import annotations

import subprocess

import pytest

from pyswiftops.installing.megatron import megatron_checkouts, megatron_profile
from pyswiftops.matrix import row, rows

FOLDER = {"folder": "/opt/it's here/"}


@pytest.mark.parametrize("line", rows())
def test_trees_only_where_the_row_wants_them(line: str) -> None:
    source = row(line).megatron_source
    found = megatron_checkouts(line, FOLDER)
    assert [item["variable"] for item in found] == source.environment
    assert bool(found) == (source.kind == "git")
    for item in found:
        assert item["branch"] or item["commit"]
        assert item["repository"].startswith("https://")
        assert item["path"] == f"/opt/it's here/{item['name']}"


def test_line_2_6_has_two_at_the_rows_commits() -> None:
    first, second = megatron_checkouts("2.6", {**FOLDER, "commit": "", "patch_archive": "/p.tgz"})
    source = row("2.6").megatron_source
    assert (first["commit"], first["archive"]) == (source.commit, "")
    assert (second["commit"], second["archive"]) == (source.patch_commit, "/p.tgz")
    assert second["name"] == "Pai-Megatron-Patch"


def test_a_mirror_and_a_commit_take_the_rows_place() -> None:
    given = {**FOLDER, "repository": "ssh://node-1/srv/git/M", "commit": "abc"}
    (item,) = megatron_checkouts("3.12", given)
    assert (item["repository"], item["commit"]) == ("ssh://node-1/srv/git/M", "abc")
    assert item["branch"] == row("3.12").megatron_source.branch


def test_a_shell_reads_the_path_as_it_is() -> None:
    text = megatron_profile(megatron_checkouts("3.12", FOLDER))
    shown = subprocess.run(
        ["sh", "-c", text + 'printf %s "$MEGATRON_LM_PATH"'],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout == "/opt/it's here/Megatron-LM"
