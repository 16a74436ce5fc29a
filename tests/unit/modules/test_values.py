"""The module ``values``: what earlier stages left, and leased ports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(run_module: RunModule, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*needs: str, **more: Any) -> dict[str, Any]:
        arguments = {
            "needs": list(needs),
            "lengths": str(tmp_path / "lengths.json"),
            "train": str(tmp_path / "train"),
            "job": str(tmp_path / "jobs" / "train"),
            "leases": str(tmp_path / "leases" / "train.json"),
        }
        return run_module("values", **{**arguments, **more})

    return run


def test_the_measured_length(ask: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "lengths.json").write_text(json.dumps({"max_length": 48}), encoding="utf-8")
    assert ask("data.max_length")["known"] == {"data.max_length": 48}


def test_a_value_of_a_stage_that_has_not_run_names_the_stage(
    ask: Callable[..., dict[str, Any]],
) -> None:
    assert "run stage data first" in ask("data.max_length")["msg"]
    assert "run stage train first" in ask("train.checkpoint")["msg"]


def test_the_latest_checkpoint_by_number(
    ask: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    for number in (9, 10):
        folder = tmp_path / "train" / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        (folder / "latest_checkpointed_iteration.txt").write_text(str(number), encoding="utf-8")
    latest = str(tmp_path / "train" / "checkpoint-10")
    assert ask("train.checkpoint")["known"] == {"train.checkpoint": latest}


def test_leased_ports_are_distinct_and_below_the_ephemeral_range(
    ask: Callable[..., dict[str, Any]],
) -> None:
    values = ask("lease.master_port", "lease.heartbeat_port")["known"]
    assert len(set(values.values())) == 2
    assert all(20000 <= port <= 29999 for port in values.values())


def test_check_mode_keeps_no_lease(ask: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert ask("lease.master_port", check=True)["known"]
    assert not (tmp_path / "leases").exists()
