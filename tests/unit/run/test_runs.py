"""The runs of a folder, as their files tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyswiftops.client import Client
from pyswiftops.errors import BadInputError
from pyswiftops.paths import RunFolder
from pyswiftops.store import RunStore

from .test_store import plan


def test_runs_are_listed_with_state_and_who_drives(tmp_path: Path) -> None:
    client = Client(tmp_path / "runs")
    assert client.list_runs() == []
    store = RunStore(RunFolder(client.runs, "r"))
    store.create(plan())
    store.update("data", state="succeeded")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{", encoding="utf-8")
    with store.driving():
        broken, run = client.list_runs()
    assert (broken.run_id, broken.state) == ("broken", "unreadable")
    assert "run.json of version" in broken.problem
    assert (run.run_id, run.driven, run.fleet) == ("r", True, "fleet")
    assert (run.state, dict(run.stages)) == ("succeeded", {"data": "succeeded"})
    assert not client.list_runs()[1].driven


def test_logs_of_a_node_that_is_none_are_refused(tmp_path: Path) -> None:
    client = Client(tmp_path / "runs")
    RunStore(RunFolder(client.runs, "r")).create(plan())
    for follow in (False, True):
        with pytest.raises(BadInputError, match="node-9"):
            list(client.logs("r", node="node-9", follow=follow))
