"""The demo's rows, fleet and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyswiftops.demo import dataset
from pyswiftops.demo.run import DemoFiles, DemoOptions, demo_fleet, demo_spec, prepare
from pyswiftops.errors import BadInputError
from pyswiftops.planner.parallel import check_parallel
from pyswiftops.specs.run import RunSpec

SMOLLM2 = {"num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30}


def test_name_and_author_stand_in_every_identity_row_and_in_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    count = dataset.write_rows(path, 'Ada "小智"', "O'Neill")
    rows = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    assert len(rows) == count == len(dataset.IDENTITY_QUESTIONS) + len(dataset.BASE_ANSWERS)
    named = [row for row in rows if 'Ada "小智"' in row[1]["content"]]
    assert [row[0]["content"] for row in named] == list(dataset.IDENTITY_QUESTIONS)
    assert all("O'Neill" in row[1]["content"] for row in named)


def test_what_must_still_be_known_is_not_trained() -> None:
    trained = {row["messages"][0]["content"] for row in dataset.rows("a", "b")}
    assert not trained & {question for question, _ in dataset.STILL_KNOWN}


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_every_variant_is_a_valid_run(tmp_path: Path, tuner: str, nodes: int) -> None:
    options = DemoOptions("a", "b", tmp_path, device="gpu", tuner=tuner, nodes=nodes)
    files = DemoFiles(tmp_path)
    fleet = demo_fleet(files, options)
    spec = RunSpec.from_document(demo_spec(files, options), files.run)
    assert check_parallel(spec, nodes, SMOLLM2) == []
    assert [host["swiftops_gpus"] for host in fleet.host_vars().values()] == [
        [rank] for rank in range(nodes)
    ]


@pytest.mark.parametrize(
    "options",
    [
        DemoOptions(" ", "b", Path("x")),
        DemoOptions("a\nb", "b", Path("x")),
        DemoOptions("a", "", Path("x")),
        DemoOptions("a", "b", Path("x"), device="tpu"),
        DemoOptions("a", "b", Path("x"), tuner="qlora"),
        DemoOptions("a", "b", Path("x"), nodes=4),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: DemoOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError):
        prepare(options)
    assert list(tmp_path.iterdir()) == []
