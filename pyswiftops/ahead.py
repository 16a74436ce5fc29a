"""Each checkpoint gathered while training goes on, so that a lost node loses none."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from pyswiftops.events import EventKind
from pyswiftops.paths import RunFolder
from pyswiftops.planner.plan import Plan
from pyswiftops.runner import ModuleResult, PlaybookResult, run_playbook

STAGE = "train"
Tell = Callable[[EventKind, str, Mapping[str, Any]], None]


class Ahead:
    """Gathers, in a thread of its own, what training has saved; a context around training.

    A save is over once a later step is logged. The last one is left to the stage ``gather``. What
    fails is told as an alert, and does not stop training; the next save is tried again.

    Args:
        plan: The run; ``gather.ahead`` of it nodes get each checkpoint.
        folder: The run's folder.
        tell: Called for every event.
        cancelled: Whether the run was asked to stop.
        on_output: Called with what ansible-playbook itself prints.

    Attributes:
        trained: Whether training has succeeded: what is under way is given up then, as the stage
            ``gather`` brings the end. After a failure it is awaited: it may be what is left.
    """

    trained = False

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        tell: Tell,
        cancelled: Callable[[], bool],
        on_output: Callable[[str], None] | None = None,
    ) -> None:
        self._plan, self._folder, self._tell, self._on_output = plan, folder, tell, on_output
        self._cancelled = cancelled
        self._saves: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._last = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gather ahead", daemon=True)

    @property
    def wanted(self) -> bool:
        """Whether the run asks for it, and can have it."""
        spec = self._plan.spec
        megatron = spec.method.backend == "megatron"
        return bool(spec.gather.ahead and spec.training.save_every and megatron)

    def __enter__(self) -> Self:
        if self.wanted:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.trained:
            self._over.set()
        self._saves.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def take(self, result: ModuleResult) -> None:
        """Look at what a node told of training: its step."""
        progress = result.data.get("progress")
        every = self._plan.spec.training.save_every
        if not (progress and every and self.wanted):
            return
        saved = (int(progress["step"]) - 1) // every * every
        if saved > self._last:
            self._last = saved
            self._saves.put(saved)

    def _work(self) -> None:
        while (save := self._saves.get()) is not None and not self._over.is_set():
            while not self._saves.empty():  # only the newest is worth the way
                later = self._saves.get()
                if later is None:
                    return
                save = later
            self._gather(save)

    def _gather(self, save: int) -> None:
        spec, fleet = self._plan.spec, self._plan.fleet
        nodes = [node.name for node in fleet.members][: spec.gather.ahead]
        result = run_playbook(
            "checkpoints.ahead",
            self._folder.fleet,
            self._folder.ansible("gather_ahead"),
            {
                "swiftops_run_id": self._plan.run_id,
                "swiftops_gather_checkpoint": str(save),
                "swiftops_gather_nodes": nodes,
                "swiftops_gather_rate": spec.gather.rate,
            },
            forks=max(5, len(fleet.members)),
            private=self._folder.private,
            on_output=self._on_output,
            cancelled=lambda: self._over.is_set() or self._cancelled(),
            owner=str(self._folder.root),
        )
        if result.ok:
            self._tell(EventKind.GATHERED, STAGE, _told(save, nodes, result))
        elif not self._over.is_set():
            why = str(result.failures[-1].data.get("msg", "")) if result.failures else "no answer"
            told = {"kind": "gather", "detail": f"step {save} was not gathered: {why}"}
            self._tell(EventKind.ALERT, STAGE, told)


def _told(save: int, nodes: list[str], result: PlaybookResult) -> dict[str, Any]:
    brought = [data.get("gathered") or {} for data in result.data("checkpoint_info").values()]
    moved = sum(int(item.get("moved", 0)) for item in brought)
    seconds = round(sum(float(item.get("seconds", 0)) for item in brought), 3)
    detail = f"step {save} is whole on {', '.join(nodes)}"
    return {
        "checkpoint": save,
        "nodes": nodes,
        "moved": moved,
        "seconds": seconds,
        "detail": detail,
    }
