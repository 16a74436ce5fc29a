"""Alerts of a training, and what it uses of its node."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_utils import alerts, progress, usage

if TYPE_CHECKING:
    from conftest import Node

GIB = 1024**3
CARDS = """0, GPU-aaaa, 97, 1024, 81559
1, GPU-bbbb, [N/A], 0, 81559
no devices were found
"""
BROKEN = """
import json, sys, time
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({"iteration": "1/9", "loss": 1.0}) + "\\n")
    file.write(json.dumps({"iteration": "2/9", "loss": float("nan")}) + "\\n")
while True:
    sum(range(1000))
"""


def write(path: Path, step: int, loss: object) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"iteration": f"{step}/100", "loss": loss}) + "\n")


def watch(path: Path, **settings: Any) -> alerts.Watch:
    return alerts.Watch({"spike": 6, "window": 50, **settings}, str(path), "n1")


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), "nan"])
def test_a_loss_that_is_no_number_is_told_once(tmp_path: Path, loss: object) -> None:
    path = tmp_path / "logging.jsonl"
    looked = watch(path)
    write(path, 1, 2.0)
    assert looked.look() == []
    write(path, 2, loss)
    write(path, 3, loss)
    (told,) = looked.look()
    assert (told["kind"], told["node"], told["step"]) == ("nan", "n1", 2)
    assert told["detail"] == "loss is not a number at step 2"
    write(path, 4, loss)
    assert looked.look() == []
    assert len(looked.found) == 1


def test_lines_of_an_earlier_attempt_and_half_a_line_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "logging.jsonl"
    write(path, 1, float("nan"))
    looked = watch(path)
    line = json.dumps({"iteration": "2/9", "loss": float("nan")})
    with path.open("a", encoding="utf-8") as file:
        file.write(line[:10])
    assert looked.look() == []
    with path.open("a", encoding="utf-8") as file:
        file.write(line[10:] + "\n")
    assert [told["step"] for told in looked.look()] == [2]


def test_a_leap_of_the_loss_is_a_spike_and_a_noisy_fall_is_none(tmp_path: Path) -> None:
    path = tmp_path / "logging.jsonl"
    looked = watch(path)
    for step in range(1, 60):
        write(path, step, 3 - step / 40 + (0.1 if step % 2 else -0.1))
    assert looked.look() == []
    write(path, 60, 9.0)
    write(path, 61, 9.5)
    (told,) = looked.look()
    assert (told["kind"], told["step"]) == ("spike", 60)
    assert told["detail"].startswith("loss 9 at step 60, the usual is")


def test_no_spike_without_a_rule_or_a_past() -> None:
    off, young = alerts.Spike(0, 50), alerts.Spike(6, 50)
    assert [off.take(loss) for loss in [1.0] * 30 + [99.0]] == [None] * 31
    assert [young.take(loss) for loss in [1.0] * (alerts.LEAST_STEPS - 1) + [99.0]] == [None] * 20


@pytest.mark.parametrize(
    ("free", "sizes", "settings", "words"),
    [
        (25, [10], {"save_every": 5, "iterations": 50, "keep": None}, "in about 15 steps"),
        (25, [10], {"save_every": 5, "iterations": 15, "keep": None}, None),
        (25, [10], {"save_every": 5, "iterations": 50, "keep": 2}, None),
        (15, [10], {"save_every": 5, "iterations": 50, "keep": 2}, "in about 10 steps"),
        (5, [10], {}, "at the next checkpoint"),
        (25, [10], {}, None),
        (0, [], {"save_every": 5, "iterations": 50}, None),
    ],
)
def test_the_disk_is_forecast_from_checkpoints(
    free: int, sizes: list[int], settings: dict[str, Any], words: str | None
) -> None:
    step = 5 if sizes else None
    told = alerts.forecast(free * GIB, [size * GIB for size in sizes], step, settings)
    assert (told is None) if words is None else (words in str(told))


def test_a_disk_that_is_too_small_is_told_once(tmp_path: Path) -> None:
    shard = tmp_path / "checkpoint-5" / "iter_0000005" / "__0_0.distcp"
    shard.parent.mkdir(parents=True)
    with shard.open("wb") as file:
        file.truncate(1 << 42)  # a sparse file: 4 TiB by its size
    looked = watch(tmp_path / "none", output=str(tmp_path), save_every=5, iterations=10_000_000)
    (told,) = looked.look()
    assert (told["kind"], told["step"]) == ("disk", 5)
    assert str(tmp_path) in told["detail"]
    assert looked.look() == []


def test_not_finite_names_the_value() -> None:
    assert progress.not_finite('{"loss": 1.0, "grad_norm": Infinity}') == ["grad_norm"]
    assert progress.not_finite('{"loss": "many"}') == []
    assert progress.not_finite("{") == []


def test_cards_are_read_and_only_those_of_the_job() -> None:
    both = usage.gpus(CARDS, None)
    assert [card["index"] for card in both] == [0, 1]
    assert both[0] == {
        "index": 0,
        "utilisation_percent": 97,
        "memory_used_bytes": GIB,
        "memory_total_bytes": 81559 * 1024 * 1024,
    }
    assert both[1]["utilisation_percent"] is None
    assert [card["index"] for card in usage.gpus(CARDS, "1")] == [1]
    assert [card["index"] for card in usage.gpus(CARDS, "GPU-aaaa")] == [0]
    assert usage.gpus(CARDS, "") == []


@pytest.mark.slow
def test_a_job_with_a_nan_goes_on_and_tells_and_ends_where_that_is_asked_for(
    node: Node, tmp_path: Path
) -> None:
    path = str(tmp_path / "logging.jsonl")
    code = ("python3", "-c", BROKEN, path)
    node.start(*code, progress_file=path, watch={"spike": 6})
    node.eventually(lambda: node.read()["usage"] is not None)
    told = node.read()
    assert told["state"] == "running"
    assert [(alert["kind"], alert["step"]) for alert in told["alerts"]] == [("nan", 2)]
    assert told["usage"]["cpu_percent"] > 0
    assert told["usage"]["memory_bytes"] > 0
    node.module(state="stopped")
    node.start(*code, progress_file=path, watch={"stop_on_nan": True})
    end = node.end()
    assert (end["state"], end["reason"]["kind"]) == ("failed", "nan")
    assert "loss is not a number at step 2" in end["reason"]["detail"]
    assert end["reason"]["at"] <= time.time()


@pytest.mark.parametrize("given", [{"spike": -1}, {"window": "x"}, {"colour": 1}, {"output": "a"}])
def test_a_watch_that_cannot_be_is_refused(node: Node, given: dict[str, Any]) -> None:
    told = node.module(state="started", run_id="r", stage="s", node="n", argv=["true"], watch=given)
    assert "watch" in told["msg"]
    assert not (node.directory / "state.json").exists()
