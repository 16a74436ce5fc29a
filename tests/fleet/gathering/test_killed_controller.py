"""The controller of a gather is killed: its job goes on, the next command joins or finishes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .user import User, end_with_children, until

pytestmark = pytest.mark.fleet

SLOW = ("--rate", "0.6")  # megabytes a second of each node: about forty seconds


def begun(user: User, *options: str) -> Any:
    """A gather of which some has arrived."""
    job = user.start("gather", "old", *options)
    until(lambda: job.poll() is not None or user.lab.arrived() > user.lab.made.bytes / 8)
    assert job.poll() is None, job.communicate()
    return job


def states(user: User) -> list[dict[str, Any]]:
    """Of all jobs that gathered."""
    found = (user.lab.data / "swiftops").rglob("state.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def test_the_job_of_a_killed_controller_goes_on_and_is_joined_by_the_same_gather_alone(
    user: User,
) -> None:
    end_with_children(begun(user, "--to", "node-1:/data/target/checkpoint-10", *SLOW))
    (before,) = states(user)
    joins = user.start("gather", "old", "--to", "node-1:/data/target/checkpoint-10", *SLOW)
    said = user.gather("--rate", "3")
    assert said.code == 1, said
    assert "is running with another command" in said.err
    assert "joined" not in said.err
    _, err = joins.communicate(timeout=180)
    assert joins.returncode == 0, err
    assert "one that brings just this is under way on node-1: joined" in " ".join(err.split())
    (after,) = states(user)
    assert after["state"] == "succeeded"
    assert after["started_at"] == before["started_at"]
    assert user.lab.whole()
    assert user.gathered() == 0


def test_what_a_killed_controller_had_brought_to_itself_is_not_brought_again(user: User) -> None:
    place = f"controller:{user.lab.dest}"
    end_with_children(begun(user, "--to", place, *SLOW))
    kept = user.lab.arrived()
    assert not user.lab.dest.exists()
    moved = user.gather("--json", to=place).told["moved"]
    assert 0 < moved < user.lab.made.bytes - kept + 8 * 1024 * 1024  # but for chunks cut in two
    assert user.lab.whole()
