"""events.jsonl: everything that happened, for whoever looks on now or later."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pyswiftops.errors import RunNotFoundError
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.pipeline import NodeEvents, Pipeline
from pyswiftops.runner import ModuleResult, PlaybookResult
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.store import RunStore

from .test_store import plan


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore(RunFolder(tmp_path / "runs", "r"))
    made.create(plan())
    return made


def step(number: int) -> Event:
    return Event(EventKind.PROGRESS, "train", 1.5, "node-1", {"step": number})


ENDED = Event(EventKind.RUN_FINISHED, "", 9.0, data={"seconds": 9.0})


def test_an_event_is_the_same_after_the_file(store: RunStore) -> None:
    event = Event(EventKind.ALERT, "train", 1.25, "node-2", {"detail": '损失 "NaN"\n'}, time=7.5)
    store.record(event)
    assert list(store.events()) == [event]


@pytest.mark.parametrize("data", [{}, {"kind": "none"}, {**step(1).to_dict(), "at": "soon"}])
def test_what_is_no_event_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"event|none|soon"):
        Event.from_dict(data)


def test_half_a_line_of_a_killed_controller_is_passed_over(store: RunStore) -> None:
    store.record(step(1))
    with store.folder.events.open("a", encoding="utf-8") as file:
        file.write(step(2).line()[:20])
    with store.driving():
        store.record(step(3))
    assert [event.data["step"] for event in store.events()] == [1, 3]


def test_following_ends_with_the_run(store: RunStore) -> None:
    seen: list[Event] = []
    with store.driving():
        store.record(step(1))
        reader = threading.Thread(target=lambda: seen.extend(store.events(follow=True)))
        reader.start()
        store.record(step(2))
        store.record(ENDED)
    reader.join(30)
    assert not reader.is_alive()
    assert [event.kind for event in seen] == [
        EventKind.PROGRESS,
        EventKind.PROGRESS,
        EventKind.RUN_FINISHED,
    ]


def test_following_ends_when_nobody_drives_the_run(store: RunStore) -> None:
    store.record(step(1))
    begin = time.monotonic()
    assert len(list(store.events(follow=True))) == 1
    assert time.monotonic() - begin < 10


def test_events_of_no_run_are_an_error(store: RunStore) -> None:
    with pytest.raises(RunNotFoundError):
        list(RunStore(RunFolder(store.folder.runs, "none")).events())


def look(node: str = "node-1", *, unreachable: bool = False, **data: object) -> ModuleResult:
    more = {"directory": "/r/jobs/train", **data}
    return ModuleResult("job", "t", node, more, failed=unreachable, unreachable=unreachable)


def told(*looks: ModuleResult) -> list[tuple[EventKind, str, dict[str, object]]]:
    seen: list[tuple[EventKind, str, dict[str, object]]] = []
    events = NodeEvents("train", lambda kind, _, data, node: seen.append((kind, node, dict(data))))
    for item in looks:
        events.take(item)
    return seen


def test_each_step_state_and_alert_is_told_once() -> None:
    alert = {"kind": "nan", "detail": "loss is NaN", "node": "node-1", "step": 2}
    first = look(state="running", progress={"step": 1})
    second = look(state="running", progress={"step": 2}, alerts=[alert])
    seen = told(first, first, second, second, look(state="failed", reason={"detail": "x"}))
    kinds = [kind.value for kind, _, _ in seen]
    assert kinds == ["node", "progress", "progress", "alert", "node"]
    assert seen[3][2] == alert
    assert seen[-1][2] == {"job": "train", "state": "failed", "detail": "x"}


def test_a_hang_is_an_alert_of_the_node_where_it_began() -> None:
    first = look(state="failed", reason={"kind": "hung", "detail": "no step"})
    peer = look("node-2", state="failed", reason={"kind": "peer_failed", "cause": "hung"})
    seen = told(first, first, peer)
    assert [(kind.value, node) for kind, node, _ in seen] == [
        ("node", "node-1"),
        ("alert", "node-1"),
        ("node", "node-2"),
    ]
    assert seen[1][2] == {"kind": "hung", "detail": "no step", "node": "node-1"}


def test_usage_is_told_when_it_changes() -> None:
    usage = {"cpu_percent": 99.0}
    seen = told(look(usage=usage), look(usage=usage), look("node-2", usage=usage))
    assert [(kind.value, node) for kind, node, _ in seen] == [
        ("usage", "node-1"),
        ("usage", "node-2"),
    ]


def test_a_node_that_cannot_be_reached_is_told_of() -> None:
    ((kind, node, data),) = told(look(unreachable=True, msg="no route"))
    assert (kind, node, data["state"]) == (EventKind.NODE, "node-1", "unreachable")
    assert data["detail"] == "no route"


def test_a_job_that_ended_itself_for_nan_is_an_alert_told_once(store: RunStore) -> None:
    seen: list[Event] = []
    line = "RuntimeError: found NaN in local grad norm for bucket #0"
    said = {"msg": f"exited with code 1\n{line}"}
    answer = ModuleResult("job", "Train", "node-2", said, failed=True)
    pipeline = Pipeline(plan(), store, seen.append)
    for _ in range(2):
        problem = pipeline._failure(CATALOG["train"], PlaybookResult(ok=False, results=[answer]))
        assert "no longer numbers" in str(problem)
    (event,) = seen
    assert (event.kind, event.stage, event.node) == (EventKind.ALERT, "train", "node-2")
    assert event.data == {"kind": "nan", "detail": line, "node": "node-2"}
