"""How far a training is, read from a file that another thread appends to."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from fleet_utils import progress

MEGATRON_4 = {
    "loss": 2.5,
    "grad_norm": 1.25,
    "learning_rate": 0.001,
    "elapsed_time": "1m 3s",
    "remaining_time": "1h 2m 3s",
    "memory(GiB)": 3.1,
    "train_speed(s/it)": 5.25,
    "iteration": "3/4",
}


def test_a_megatron_line_of_release_4() -> None:
    assert progress.parse_line(json.dumps(MEGATRON_4)) == {
        "step": 3,
        "total": 4,
        "loss": 2.5,
        "grad_norm": 1.25,
        "lr": 0.001,
        "elapsed": 63.0,
        "remaining": 3723.0,
        "seconds_per_step": 5.25,
    }


def test_a_line_of_swift_sft_and_of_megatron_3() -> None:
    line = {"global_step/max_steps": "3/10", "loss": "1.5", "elapsed_time_per_iteration": 2}
    found = progress.parse_line(json.dumps(line))
    assert found is not None
    assert (found["step"], found["total"], found["loss"]) == (3, 10, 1.5)
    assert found["seconds_per_step"] == 2.0
    assert found["lr"] is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        '"iteration"',
        '{"loss": 1}',
        '{"iteration": 3}',
        '{"iteration": "3"}',
        '{"iteration": "x/4"}',
        '{"last_model_checkpoint": "/x/checkpoint-4", "best_metric": 1.0}',
    ],
)
def test_a_line_without_progress_is_skipped(line: str) -> None:
    assert progress.parse_line(line) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5s", 5),
        ("1m 3s", 63),
        ("1h 2m 3s", 3723),
        ("1d 2h 3m", 93780),
        ("1.5s", 1.5),
        ("0:01:03", 63),
        ("1 day, 0:00:01", 86401),
        (7, 7),
        ("8.5", 8.5),
        ("", None),
        ("soon", None),
        (None, None),
        (True, None),
    ],
)
def test_durations(text: object, wanted: float | None) -> None:
    assert progress.seconds(text) == wanted


def test_not_a_number_is_no_loss() -> None:
    found = progress.parse_line('{"iteration": "1/2", "loss": NaN, "grad_norm": Infinity}')
    assert found is not None
    assert found["loss"] is None
    assert found["grad_norm"] is None


def test_the_latest_record_ignores_summary_and_half_a_line(tmp_path: Path) -> None:
    lines = [json.dumps({**MEGATRON_4, "iteration": f"{step}/4"}) for step in (1, 2, 3)]
    evaluation = json.dumps({"iteration": "3/4", "eval_loss": 2.0})
    summary = json.dumps({"last_model_checkpoint": "x"})
    path = tmp_path / "logging.jsonl"
    path.write_text("\n".join([*lines, evaluation, summary, '{"iteration": "4/4", "lo']))
    found = progress.latest(str(path))
    assert found is not None
    assert (found["step"], found["loss"]) == (3, 2.5)


def test_only_the_end_of_a_long_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "logging.jsonl"
    line = json.dumps({**MEGATRON_4, "iteration": "1/9", "note": "ü" * 500}, ensure_ascii=False)
    path.write_text((line + "\n") * 1000 + json.dumps({**MEGATRON_4, "iteration": "9/9"}) + "\n")
    found = progress.latest(str(path))
    assert found is not None
    assert found["step"] == 9


def test_no_file_is_no_progress(tmp_path: Path) -> None:
    assert progress.latest(str(tmp_path / "nothing")) is None


def test_the_curve_is_every_step_once_and_is_thinned_evenly(tmp_path: Path) -> None:
    log = tmp_path / "logging.jsonl"
    lines = [
        {**MEGATRON_4, "loss": 1000.0 - step, "iteration": f"{step}/900"} for step in range(900)
    ]
    again = [{**MEGATRON_4, "loss": 7.0, "iteration": "0/900"}]
    evaluation = [{"eval_loss": 1.0, "iteration": "5/900"}]
    text = "\n".join(json.dumps(line) for line in [*lines, *again, *evaluation])
    log.write_text(f"{text}\nhalf a li", encoding="utf-8")
    points = progress.curve(str(log))
    assert len(points) == 400
    assert points[0] == [0, 7.0, 1.25, 0.001]
    assert points[-1][:2] == [899, 101.0]
    steps = [int(point[0] or 0) for point in points]
    gaps = {after - before for before, after in itertools.pairwise(steps)}
    assert gaps == {2, 3}
    assert progress.curve(str(tmp_path / "none")) == []
