"""What the stage playbooks ask of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import BadInputError
from pyswiftops.planner import commands
from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

AT = Path("/nowhere/x.yml")
FLEET = Fleet.from_document(
    {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "/fleet",
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
    },
    AT,
)
RUN: dict[str, Any] = {
    "name": "r",
    "model": {"path": "/m"},
    "data": {"train": ["/d.jsonl"]},
    "training": {"iterations": 2, "global_batch_size": 2},
    "parallel": {"pipeline": 2},
}


def test_a_playbook_by_hand_renders_what_the_sdk_plans() -> None:
    plan = make_plan(FLEET, RunSpec.from_document({"run": RUN}, AT), "r")
    by_hand = commands.stage_commands(RUN, "train", "r", FLEET.host_vars())
    planned = {command.node: command.to_dict() for command in plan.jobs["train"]}
    assert json.loads(json.dumps(by_hand)) == json.loads(json.dumps(planned))


def test_needs_names_the_late_values() -> None:
    rendered = commands.stage_commands(RUN, "train", "r", FLEET.host_vars())
    assert commands.needs(rendered) == ["data.max_length", "lease.master_port"]


def test_requests_hold_the_bound_values() -> None:
    rendered = commands.stage_commands(RUN, "train", "r", FLEET.host_vars())
    requests = commands.job_requests(rendered, {"data.max_length": 48, "lease.master_port": 20001})
    for request in requests.values():
        argv = request["argv"]
        assert argv[argv.index("--max_length") + 1] == "48"
        assert request["env"]["MASTER_PORT"] == "20001"


def test_ranks_must_be_complete() -> None:
    variables = FLEET.host_vars()
    variables["node-2"]["swiftops_rank"] = 5
    with pytest.raises(BadInputError, match="0 to 1, each once and in this order"):
        commands.stage_commands(RUN, "train", "r", variables)


def test_a_hand_written_inventory_without_a_variable_is_told_which() -> None:
    variables = FLEET.host_vars()
    del variables["node-2"]["swiftops_root"]
    with pytest.raises(BadInputError, match="no swiftops_root"):
        commands.stage_commands(RUN, "train", "r", variables)


def test_extra_args_that_the_line_does_not_know_are_refused() -> None:
    run = {**RUN, "extra_args": {"train": {"train_iter": 3}}}
    with pytest.raises(BadInputError, match="did you mean 'train_iters'"):
        commands.stage_commands(run, "train", "r", FLEET.host_vars())


def test_the_first_failure_is_the_one_that_is_nobody_elses() -> None:
    results = {
        "node-1": {
            "state": "failed",
            "ended_at": 5.0,
            "reason": {"kind": "peer_failed", "detail": "node-2 failed"},
        },
        "node-2": {
            "state": "failed",
            "ended_at": 6.0,
            "reason": {"kind": "signal", "detail": "ended by signal 9"},
            "log": "/log",
            "log_tail": ["one", "two"],
        },
        "node-3": {"state": "stopped", "ended_at": 4.0, "reason": {"kind": "stopped"}},
    }
    failure = commands.first_failure(results)
    assert failure["node"] == "node-2"
    assert failure["detail"] == "ended by signal 9\none\ntwo\nlog on node-2: /log"


def test_where_no_job_failed_the_task_that_did_is_told() -> None:
    told = commands.first_failure({"node-1": {"state": "running"}}, "Values known only now: no log")
    assert told == {"node": "", "detail": "Values known only now: no log"}
