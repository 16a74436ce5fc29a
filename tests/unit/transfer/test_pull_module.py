from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_module_reports_what_it_did(
    hostile_tree: Path, tmp_path: Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    listed = run_module("manifest", path=str(hostile_tree), include=[".metadata", "*.safetensors"])
    arguments = {
        "source": {"path": str(hostile_tree)},
        "dest": str(tmp_path / "dest"),
        "files": listed["files"],
        "verify": True,  # as YAML hands it over
    }
    would = run_module("pull", check=True, **arguments)
    assert not (tmp_path / "dest").exists()
    did = run_module("pull", **arguments)
    again = run_module("pull", **arguments)

    assert listed["changed"] is False
    for answer in (would, did):
        assert answer["changed"] is True
        assert answer["copied"] == [".metadata", "模型/权重.safetensors"]
        assert answer["bytes"] == 2008
    assert (again["changed"], again["copied"], again["bytes"]) == (False, [], 0)
    assert again["kept"] == did["copied"]
    assert again["seconds"] >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dest": "relative"}, "expected absolute folders"),
        ({"source": {"path": "relative"}}, "expected absolute folders"),
        ({"source": {"path": "/x", "port": 2333}}, "host"),
        ({"source": {"path": "/x", "host": "-oProxyCommand=id"}}, "expected a host name"),
        ({"files": {"../x": {"size": 1}}}, "refused the file name"),
        ({"verify": "maybe"}, "verify"),
    ],
)
def test_the_module_refuses_bad_parameters(
    tmp_path: Path,
    run_module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"source": {"path": str(tmp_path)}, "dest": str(tmp_path / "d"), "files": {}}
    answer = run_module("pull", **{**arguments, **change})
    assert answer["failed"] is True
    assert message in answer["msg"]
    assert list(tmp_path.iterdir()) == []
