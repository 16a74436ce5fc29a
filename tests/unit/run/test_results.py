"""Events of ansible-runner -> what the modules returned."""

from __future__ import annotations

from typing import Any

import pytest

from pyswiftops.errors import StageFailedError
from pyswiftops.pipeline import stage_outcome
from pyswiftops.results import JobStatus, all_answered, job_status
from pyswiftops.runner import PlaybookResult, _module_result, environment


def event(kind: str, action: str, res: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event as ansible-runner gives it."""
    data = {"task_action": action, "task": "t", "host": "node-1", "res": res, **more}
    return {"event": kind, "event_data": data}


def test_our_modules_are_kept_and_others_only_when_they_fail() -> None:
    ours = _module_result(event("runner_on_ok", "pyswiftops.fleet.job", {"state": "running"}))
    assert ours is not None
    assert (ours.action, ours.node, ours.failed) == ("job", "node-1", False)
    assert _module_result(event("runner_on_ok", "ansible.builtin.file", {})) is None
    failed = _module_result(event("runner_on_failed", "ansible.builtin.file", {"msg": "x"}))
    assert failed is not None
    assert failed.failed


def test_a_retry_is_not_final_and_a_loop_is_told_once() -> None:
    retry = _module_result(event("runner_retry", "pyswiftops.fleet.job", {"progress": {}}))
    assert retry is not None
    assert not retry.final
    looped = event("runner_on_ok", "pyswiftops.fleet.pull", {"results": []})
    assert _module_result(looped) is None


def test_a_node_that_does_not_answer_is_no_job_without_a_state() -> None:
    nobody = {"unreachable": True, "msg": "Connection refused"}
    for kind in ("runner_on_unreachable", "runner_item_on_failed"):  # alone, and in a loop
        result = _module_result(event(kind, "pyswiftops.fleet.job", nobody))
        assert result is not None
        silent = job_status(result)
        assert silent == JobStatus("", "node-1", "unreachable", "Connection refused")
        with pytest.raises(StageFailedError, match="node-1: Connection refused"):
            all_answered([silent], ["node-1"])
        all_answered([silent], ["node-2"])
    result = _module_result(
        event("runner_item_on_failed", "pyswiftops.fleet.job", {"msg": "no python"})
    )
    assert result is not None
    assert job_status(result) == JobStatus("", "node-1", "unknown", "no python")


def test_events_that_are_no_results_are_passed_over() -> None:
    assert _module_result({"event": "playbook_on_start", "event_data": {}}) is None


def test_the_outcome_of_a_stage() -> None:
    events = [
        event("runner_on_ok", "pyswiftops.fleet.values", {"known": {"lease.master_port": 1}}),
        event("runner_on_ok", "pyswiftops.fleet.pull", {"bytes": 3}),
        event("runner_on_ok", "pyswiftops.fleet.pull", {"bytes": 4}, host="node-2"),
        event("runner_on_ok", "pyswiftops.fleet.checkpoint_info", {"checkpoint": "/c"}),
        event("runner_on_ok", "pyswiftops.fleet.job", {"log": "/l", "argv": ["a"]}),
    ]
    results = [result for item in events if (result := _module_result(item))]
    assert stage_outcome(PlaybookResult(ok=True, results=results)) == {
        "values": {"lease.master_port": 1},
        "bytes": 7,
        "checkpoint": "/c",
        "logs": {"node-1": "/l"},
        "argv": {"node-1": ["a"]},
    }


def test_secrets_of_the_caller_do_not_reach_ansible(monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    assert "s3cret" not in environment().values()
    assert environment()["HF_TOKEN"] == ""
