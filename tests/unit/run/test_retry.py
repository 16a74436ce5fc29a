"""A run's own tries after a failure; the calls that ask nodes are replaced by their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops import continuing, pipeline
from pyswiftops.checkpoints.resuming import Candidate
from pyswiftops.continuing import Standing
from pyswiftops.errors import RunStoppedError, StageFailedError
from pyswiftops.events import Event, EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.pipeline import Pipeline
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.runner import ModuleResult, PlaybookResult
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.states import StageState
from pyswiftops.store import RunStore

AT = Path("/nowhere/x.yml")
WHOLE = Candidate(2, "node-1")


def make(attempts: int = 1, **more: Any) -> Plan:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "/fleet",
        "nodes": [{"name": f"node-{n}", "spare": n == 3} for n in (1, 2, 3)],
    }
    run = {
        "name": "r",
        "model": {"path": "/m"},
        "data": {"train": ["/d"]},
        "training": {"iterations": 4},
        "parallel": {"pipeline": 2},
        "retry": {"attempts": attempts, "pause": 0, **more},
    }
    return make_plan(
        Fleet.from_document(document, AT), RunSpec.from_document({"run": run}, AT), "r"
    )


def killed(node: str, log: str = "Signal 9 (SIGKILL) received") -> PlaybookResult:
    """What the stage train returns when a rank was killed from outside."""
    reason = {"kind": "exited", "detail": "exited with code 1", "node": node}
    told = {"state": "failed", "reason": reason, "directory": "/r/jobs/train"}
    message = {"msg": json.dumps({"node": node, "detail": f"exited with code 1\n{log}"})}
    results = [
        ModuleResult("job", "Wait", node, told, failed=False),
        ModuleResult("fail", "Say", "node-1", message, failed=True),
    ]
    return PlaybookResult(ok=False, results=results)


def unreachable(node: str) -> PlaybookResult:
    told = {"msg": "no route to host"}
    lost = ModuleResult("job", "Wait", node, told, failed=True, unreachable=True)
    return PlaybookResult(ok=False, results=[lost])


DONE = PlaybookResult(ok=True)


class Drive:
    """A pipeline whose playbooks end as they are told to."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, plan: Plan) -> None:
        self.plan = plan
        self.store = RunStore(RunFolder(folder / "runs", "r"))
        self.store.create(plan)
        self.events: list[Event] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[PlaybookResult] = []
        self.standing = Standing({"node-1": "failed", "node-2": "failed"}, (WHOLE,), {})
        self.found: Callable[[Plan], Standing] = lambda _plan: self.standing
        patch.setattr(pipeline, "run_playbook", self._play)
        patch.setattr(continuing, "standing", lambda plan, *_: self.found(plan))
        patch.setattr(continuing, "answers", lambda *_: "")

    def _play(self, name: str, _fleet: Path, _folder: Path, variables: Any, **_: Any) -> Any:
        self.calls.append((name, dict(variables)))
        return self.answers.pop(0) if name == "stages.train" else DONE

    def run(self, *answers: PlaybookResult) -> None:
        self.answers = list(answers)
        Pipeline(self.plan, self.store, self.events.append).run(("train",))

    def told(self, kind: EventKind) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.events if event.kind is kind]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Drive]:
    return lambda **more: Drive(tmp_path, monkeypatch, make(**more))


def test_a_killed_rank_is_no_end_of_a_run_that_may_try_again(drive: Callable[..., Drive]) -> None:
    made = drive()
    made.run(killed("node-2"), DONE)
    assert made.store.stage_state("train") is StageState.SUCCEEDED
    (retry,) = made.told(EventKind.RETRY)
    assert (retry["attempt"], retry["attempts"]) == (1, 1)
    assert "killed on node-2" in retry["why"]
    (continued,) = made.told(EventKind.CONTINUED)
    assert continued["iteration"] == 2
    first, second = made.calls
    assert "swiftops_resume_holder" not in first[1]
    assert second[1]["swiftops_resume_holder"] == "node-1"
    assert made.store.plan().spec.resume is not None


def test_without_leave_the_first_failure_is_the_end(drive: Callable[..., Drive]) -> None:
    made = drive(attempts=0)
    with pytest.raises(StageFailedError, match="node-2"):
        made.run(killed("node-2"))
    assert made.told(EventKind.RETRY) == []
    assert made.store.stage_state("train") is StageState.FAILED


def test_the_run_s_own_fault_is_not_tried_again(drive: Callable[..., Drive]) -> None:
    made = drive()
    with pytest.raises(StageFailedError, match="CUDA out of memory"):
        made.run(killed("node-2", "torch.OutOfMemoryError: CUDA out of memory."))
    assert len(made.calls) == 1


def test_the_last_try_s_failure_is_told(drive: Callable[..., Drive]) -> None:
    made = drive(attempts=2)
    with pytest.raises(StageFailedError, match="node-1"):
        made.run(killed("node-2"), killed("node-2"), killed("node-1"))
    assert [item["attempt"] for item in made.told(EventKind.RETRY)] == [1, 2]


def gone(node: str) -> Callable[[Plan], Standing]:
    """A node of which nothing is heard, as long as it is in the plan."""

    def found(plan: Plan) -> Standing:
        members = [member.name for member in plan.fleet.members]
        jobs = {name: "absent" if name == "node-3" else "stopped" for name in members}
        silent = {node: "no route to host"} if node in members else {}
        living = {name: state for name, state in jobs.items() if name not in silent}
        return Standing(living, (WHOLE,), silent)

    return found


def test_a_spare_takes_the_place_of_a_lost_node(drive: Callable[..., Drive]) -> None:
    made = drive()
    made.found = gone("node-2")
    made.run(unreachable("node-2"), DONE)
    (replaced,) = made.told(EventKind.REPLACED)
    assert replaced["nodes"] == {"node-2": "node-3"}
    names = [name for name, _ in made.calls]
    assert names == ["stages.train", "stages.data", "stages.convert", "stages.train"]
    assert [node.name for node in made.store.plan().fleet.nodes] == ["node-1", "node-3"]
    inventory = Fleet.load(made.store.folder.fleet)
    assert [node.name for node in inventory.nodes] == ["node-1", "node-3"]
    states = {name: made.store.stage_state(name) for name in ("data", "convert", "train")}
    assert set(states.values()) == {StageState.SUCCEEDED}


@pytest.mark.parametrize("more", [{"spares": False}, {}])
def test_without_a_spare_a_lost_node_ends_the_run_with_the_remedy(
    drive: Callable[..., Drive], more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = drive(**more)
    made.found = gone("node-2")
    monkeypatch.setattr(continuing, "answers", lambda *_: "no route either")
    with pytest.raises(StageFailedError, match="--replace node-2=SPARE"):
        made.run(unreachable("node-2"))
    assert made.told(EventKind.REPLACED) == []


def test_a_node_with_a_broken_gpu_is_replaced_though_it_answers(
    drive: Callable[..., Drive],
) -> None:
    made = drive()
    made.run(killed("node-2", "NVRM: Xid (PCI:0000:01:00): 79"), DONE)
    (replaced,) = made.told(EventKind.REPLACED)
    assert replaced["nodes"] == {"node-2": "node-3"}


def test_a_stop_ends_the_pause_before_a_try(drive: Callable[..., Drive]) -> None:
    made = drive(pause=3600)
    made.answers = [killed("node-2")]
    told = made.events.append

    def stop_at_retry(event: Event) -> None:
        told(event)
        if event.kind is EventKind.RETRY:
            made.store.ask_to_stop()

    with pytest.raises(RunStoppedError):
        Pipeline(made.plan, made.store, stop_at_retry).run(("train",))
    assert made.store.stage_state("train") is StageState.STOPPED


def test_a_second_controller_asks_the_nodes_first(drive: Callable[..., Drive]) -> None:
    """The first one was killed while training ran: what runs is joined, by the plan as it is."""
    made = drive()
    made.store.update("train", state=StageState.RUNNING.value)
    made.standing = Standing({"node-1": "running", "node-2": "running"}, (WHOLE,), {})
    made.run(DONE)
    assert made.told(EventKind.CONTINUED) == []
    assert made.store.plan().to_dict() == made.plan.to_dict()
