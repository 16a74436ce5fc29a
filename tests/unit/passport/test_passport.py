"""The passport: what the run's folder says, as data and as a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pyswiftops import passport
from pyswiftops.cli.main import app
from pyswiftops.errors import BadInputError, RunNotFoundError, StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.passport.page import chart, clock, page
from pyswiftops.paths import RunFolder
from pyswiftops.store import RunStore

from .conftest import HOSTILE

VOID = {"meta", "br", "line", "circle", "polyline", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page; fails where one is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_everything_that_was_recorded_is_in_the_passport(run: RunStore) -> None:
    found = passport.from_folder(run.folder)
    assert found["passport"] == passport.VERSION
    assert found["run"]["run_id"] == "good"
    assert found["run"]["state"] == "succeeded"
    assert found["run"]["tools"] == {"pyswiftops": "0.1.0"}
    assert found["imports"]["train"][0]["packages"]["torch"] == "2.13.0"
    assert found["imports"]["train"][0]["nodes"] == ["node-1", "node-2"]
    assert found["machines"][0]["nodes"] == ["node-1", "node-2"]
    assert found["files"]["data.1"]["rows"] == 24
    assert found["values"]["data.max_length"] == 40
    assert set(found["commands"]["train"]) == {"node-1", "node-2"}
    argv = found["commands"]["train"]["node-2"]["argv"]
    assert argv[argv.index("--max_length") + 1] == "{data.max_length}"
    assert found["commands"]["train"]["node-2"]["env"]["NODE_RANK"] == "1"
    assert found["loss"]["from"] == "the training log"
    assert found["loss"]["points"][-1][:2] == [4, 0.0]
    (answer,) = found["answers"]
    assert answer == {"ask": "Who are you?", "before": "A model.", "after": "I am 小智."}
    assert json.loads(json.dumps(found)) == found


def test_a_run_that_only_began_has_one_too(tmp_path: Path, run: RunStore) -> None:
    store = RunStore(RunFolder(tmp_path / "runs", "new"))
    store.create(run.plan())
    found = passport.from_folder(store.folder)
    assert found["stages"] == found["answers"] == found["loss"]["points"] == []
    text = "".join(Page(page(found)).text)
    for sentence in ("No stage has started", "No loss was recorded", "No process left a record"):
        assert sentence in text


def test_while_training_runs_the_loss_comes_from_the_events(run: RunStore) -> None:
    run.update("train", state="running", result={})
    for step in (1, 2, 2, 3):
        data = {"step": step, "loss": 9.0 - step, "grad_norm": None, "lr": None}
        run.record(Event(EventKind.PROGRESS, "train", 1.0, "node-2", data))
    alert = {"kind": "nan", "detail": "the loss is not a number"}
    run.record(Event(EventKind.ALERT, "train", 2.0, "node-2", alert))
    found = passport.from_folder(run.folder)
    assert [point[:2] for point in found["loss"]["points"]] == [[1, 8.0], [2, 7.0], [3, 6.0]]
    assert found["loss"]["from"] == "the run's events"
    assert found["alerts"][0]["detail"] == "the loss is not a number"
    assert "the loss is not a number" in page(found)


def test_the_page_is_whole_and_asks_for_nothing(run: RunStore) -> None:
    text = page(passport.from_folder(run.folder))
    found = Page(text)
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in found.elements:
        names = set(attributes)
        assert not names & {"src", "href", "srcset", "action", "background", "style"} - {"style"}
        assert not [name for name in names if name.startswith("on")]
        assert "url(" not in (attributes.get("style") or "")
    assert "@import" not in text
    assert "url(" not in text
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [a["aria-labelledby"] for _, a in found.elements if "aria-labelledby" in a]
    assert set(labels) <= set(ids)
    assert {"lang": "en"} in [attributes for tag, attributes in found.elements if tag == "html"]
    shown = "".join(found.text)
    for wanted in ("小智", "2.13.0", "NODE_RANK", "12.5 s", "Loss from 3 at step 1", "8 GB"):
        assert wanted in shown, wanted


def _hostile(data: Any) -> Any:
    """The same data with every string that is free text made hostile."""
    if isinstance(data, dict):
        return {f"{key}": _hostile(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_hostile(item) for item in data]
    return data + HOSTILE if isinstance(data, str) else data


def test_no_value_can_become_markup(run: RunStore) -> None:
    run.update("export", state="failed", error="x", seconds=1.0)
    run.record(Event(EventKind.ALERT, "train", 2.0, "node-2", {"kind": "nan", "detail": "y"}))
    fair = passport.from_folder(run.folder)
    hostile = _hostile(fair)
    hostile["imports"][HOSTILE] = hostile["imports"].pop("train")
    hostile["commands"][HOSTILE] = hostile["commands"].pop("train")
    hostile["run"]["tools"][HOSTILE] = HOSTILE
    text = page(hostile)
    assert "<script" not in text
    assert "{{ 7 * 7 }}{% raw %}" in text
    elements = [tag for tag, _ in Page(text).elements]
    assert elements.count("title") == 2  # the page's and the picture's
    assert "<script>alert('x')" in "".join(Page(text).text)


def test_the_curve_is_drawn_within_its_frame() -> None:
    points = [[step, 10.0 / (step + 1), None, None] for step in range(300)]
    drawn = chart(points)
    assert drawn is not None
    pairs = [tuple(map(float, pair.split(","))) for pair in drawn["line"].split()]
    assert len(pairs) == 300
    assert pairs[0] == (drawn["left"], 12.0)
    assert pairs[-1] == (drawn["right"], drawn["bottom"])
    assert [row["text"] for row in drawn["rows"]][-1] == "10"
    assert chart([[1, 2.0, None, None], [2, 2.0, None, None]]) is not None  # a flat line
    assert chart([[1, 2.0, None, None]]) is None
    assert chart([]) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (0.04, "0.0 s"), (59.9, "59.9 s"), (245, "4 min 05 s"), (7441, "2 h 04 min")],
)
def test_clock(seconds: float | None, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_run_leaves_it_however_it_ends(run: RunStore) -> None:
    run.update("export", state="failed", error="no room")
    with pytest.raises(StageFailedError), passport.kept(run.folder):
        raise StageFailedError("export", "node-1", "no room")
    assert passport.load(run.folder.passport)["stages"][-1]["error"] == "no room"
    run.folder.passport.unlink()
    with passport.kept(run.folder):
        pass
    assert run.folder.passport.is_file()
    assert run.folder.passport_page.is_file()


def test_only_a_passport_of_this_version_is_read(tmp_path: Path, run: RunStore) -> None:
    written, _ = passport.write(run.folder)
    assert passport.load(written) == passport.from_folder(run.folder)
    for text in ("{", "[]", "{}", '{"passport": 99}'):
        bad = tmp_path / "bad.json"
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(BadInputError, match="a passport of version"):
            passport.load(bad)


def test_the_command_writes_both_and_prints_where(tmp_path: Path, run: RunStore) -> None:
    runs = str(run.folder.runs)
    out = tmp_path / "o ut"
    done = CliRunner().invoke(app, ["passport", "good", "--runs", runs, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(out / "passport.json"), str(out / "passport.html")]
    assert not run.folder.passport.exists()
    printed = CliRunner().invoke(app, ["passport", "good", "--runs", runs, "--json"])
    assert json.loads(printed.stdout) == passport.load(out / "passport.json")
    bad = CliRunner().invoke(app, ["passport", "none", "--runs", runs])
    assert isinstance(bad.exception, RunNotFoundError)
    into = CliRunner().invoke(app, ["passport", "good", "--runs", runs, "--out", "/proc/no"])
    assert isinstance(into.exception, BadInputError)
