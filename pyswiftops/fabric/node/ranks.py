"""The ranks of a round: forked from a process that has torch loaded, ended when time is up.

A collective over a broken link never returns, and NCCL cannot be told to give up; a process can be
ended. Forking saves every round the seconds that loading torch takes. The process that forks never
touches CUDA, as a forked process could not use it then.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

BLOCKS = 25  # the best of them counts: other work on the nodes only ever makes one slower
MOST = 2000
PINGS = 400
TORCH_SECONDS = 300.0
TIME_UP = "its time was up"
_WORD = 4  # bytes of a float32

Tell = Callable[..., None]


class Forker:
    """A process that forks ranks for every round; made before this one has threads."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            here.close()
            try:
                _fork_on_demand(there)
            finally:
                os._exit(1)
        there.close()
        self._file = here.makefile("rw", encoding="utf-8")
        here.settimeout(TORCH_SECONDS)
        self.loaded = json.loads(self._file.readline() or '{"error": "torch was not loaded"}')
        here.settimeout(None)

    def run(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """What each rank of this node told: ``lines``, and ``end``, "" where it ended well.

        Args:
            task: ``ranks``, ``world``, ``first``, ``host``, ``port``, ``backend``, ``kind``,
                ``sizes``, ``budget``, ``seconds`` and ``debug``.
        """
        self._file.write(json.dumps(task) + "\n")
        self._file.flush()
        answer: list[dict[str, Any]] = json.loads(self._file.readline())
        return answer

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _fork_on_demand(connection: socket.socket) -> None:
    file = connection.makefile("rw", encoding="utf-8")
    try:
        import torch  # noqa: PLC0415 loaded here, once for all rounds

        said = {"torch": torch.__version__}
    except Exception as error:  # noqa: BLE001 told to the parent, whatever it is
        said = {"error": f"torch cannot be loaded: {error}"}
    file.write(json.dumps(said) + "\n")
    file.flush()
    for line in file:
        file.write(json.dumps(_round(json.loads(line))) + "\n")
        file.flush()
    os._exit(0)


def _round(task: dict[str, Any]) -> list[dict[str, Any]]:
    readers, pids = [], []
    for local in range(task["ranks"]):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _become_rank(task, local, writer)
        os.close(writer)
        readers.append(reader)
        pids.append(pid)
    told = _collect(readers, time.monotonic() + task["seconds"])
    return [_ended(pid, *item) for pid, item in zip(pids, told)]  # noqa: B905 Python 3.9


def _collect(readers: list[int], deadline: float) -> list[tuple[bytes, bool]]:
    """What came of each rank, and whether it has ended."""
    texts: dict[int, bytes] = dict.fromkeys(readers, b"")
    waiting = set(readers)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for reader in select.select(list(waiting), [], [], left)[0]:
            part = os.read(reader, 1 << 16)
            texts[reader] += part
            if not part:
                waiting.discard(reader)
    for reader in readers:
        os.close(reader)
    return [(text, reader not in waiting) for reader, text in texts.items()]


def _ended(pid: int, text: bytes, ended: bool) -> dict[str, Any]:
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    lines = [json.loads(line) for line in text.splitlines() if line.endswith(b"}")]
    if not ended:
        end = TIME_UP
    elif lines and "done" in lines[-1]:
        end = ""
    else:
        errors = [line["error"] for line in lines if "error" in line]
        end = errors[-1] if errors else f"exit {os.waitstatus_to_exitcode(status)}"
    return {"lines": lines, "end": end}


def _become_rank(task: dict[str, Any], local: int, writer: int) -> None:
    def tell(**what: Any) -> None:
        os.write(writer, (json.dumps(what) + "\n").encode())

    try:
        Rank(task, local, tell).run()
        tell(done=True)
    except Exception as error:  # noqa: BLE001 told to the parent, whatever it is
        traceback.print_exc(file=sys.stderr)
        tell(error=(str(error).strip() or repr(error)).splitlines()[0][:400])
    finally:
        sys.stderr.flush()
        os._exit(0)


class Rank:
    """One rank of one round.

    Args:
        task: As :meth:`Forker.run` takes it.
        local: Its number on this node.
        tell: Called with what there is to tell.
    """

    def __init__(self, task: dict[str, Any], local: int, tell: Tell) -> None:
        import torch  # noqa: PLC0415 loaded already
        import torch.distributed as dist  # noqa: PLC0415

        self._torch, self._dist = torch, dist
        self._task, self._local, self._tell = task, local, tell
        self._rank, self._world = task["first"] + local, task["world"]
        self._gpu = task["backend"] == "nccl"
        self._device = torch.device("cuda", local) if self._gpu else torch.device("cpu")

    def run(self) -> None:
        """Connect, then measure."""
        task = self._task
        if task["debug"]:
            Path(task["debug"]).parent.mkdir(parents=True, exist_ok=True)
            os.environ["NCCL_DEBUG"] = "INFO"
            os.environ["NCCL_DEBUG_SUBSYS"] = "INIT,ENV,NET,GRAPH"
            os.environ["NCCL_DEBUG_FILE"] = f"{task['debug']}.{self._local}"
        if self._gpu:
            self._torch.cuda.set_device(self._device)
        self._tell(phase="the store")
        limit = timedelta(seconds=task["seconds"])
        self._store = self._dist.TCPStore(
            task["host"], task["port"], self._world, self._rank == 0, timeout=limit
        )
        self._tell(phase="connections of the ranks")
        self._dist.init_process_group(
            task["backend"],
            store=self._store,
            rank=self._rank,
            world_size=self._world,
            timeout=limit,
        )
        ones = self._zeros(_WORD).add_(1)
        self._dist.all_reduce(ones)
        if float(ones[0]) != self._world:
            raise RuntimeError(f"a sum over {self._world} ranks came out as {float(ones[0])}")
        if task["kind"] == "pair":
            self._pair()
        else:
            self._all_reduce()
        self._dist.all_reduce(ones)  # nobody leaves while another still asks the store
        self._wait()

    def _zeros(self, size: int) -> Any:
        return self._torch.zeros(max(1, size // _WORD), device=self._device)

    def _wait(self) -> None:
        if self._gpu:
            self._torch.cuda.synchronize(self._device)

    def _timed(self, work: Callable[[], None], times: int) -> float:
        """Seconds that it takes once, when it is done so many times."""
        self._wait()
        begin = time.perf_counter()
        for _ in range(times):
            work()
        self._wait()
        return (time.perf_counter() - begin) / times

    def _say(self, key: str, once: float) -> tuple[int, int]:
        """How many blocks of how many messages fit the time; none of one that takes too long."""
        budget = self._task["budget"]
        times = max(1, min(MOST, int(budget / BLOCKS / max(once, 1e-7))))
        blocks = max(1, min(BLOCKS, int(budget / (times * once)))) if once < budget * 2 else 0
        self._store.set(key, f"{blocks} {times}")
        return blocks, times

    def _told(self, key: str) -> tuple[int, int]:
        """The same, as the rank that timed it has said."""
        blocks, times = map(int, self._store.get(key).split())
        return blocks, times

    def _all_reduce(self) -> None:
        for size in self._task["sizes"]:
            self._tell(phase=f"all-reduce of {size} bytes")
            tensor = self._zeros(size)

            def work(tensor: Any = tensor) -> None:
                self._dist.all_reduce(tensor)

            work()
            once, key = self._timed(work, 1), f"all/{size}"
            blocks, times = self._say(key, once) if self._rank == 0 else self._told(key)
            best = min((self._timed(work, times) for _ in range(blocks)), default=once)
            self._tell(size=size, seconds=best)
            if not blocks:
                return

    def _pair(self) -> None:
        half = self._world // 2
        upper = self._rank >= half
        other = self._rank - half if upper else self._rank + half
        self._tell(phase="round trips")
        self._latency(other, first=not upper)
        for turn in (False, True):
            self._stream(other, sends=upper is turn, key=f"{self._rank % half}/{int(turn)}")

    def _latency(self, other: int, *, first: bool) -> None:
        ball = self._zeros(2 * _WORD)
        trips = []
        for _ in range(PINGS):
            begin = time.perf_counter()
            if first:
                self._dist.send(ball, other)
            self._dist.recv(ball, other)
            if not first:
                self._dist.send(ball, other)
            self._wait()
            trips.append(time.perf_counter() - begin)
        trips.sort()
        self._tell(latency=trips[len(trips) // 2] / 2, worst=trips[-1] / 2)

    def _stream(self, other: int, *, sends: bool, key: str) -> None:
        """Messages one way, and a word back after each block."""
        for size in self._task["sizes"]:
            self._tell(phase=f"{'sending' if sends else 'receiving'} {size} bytes")
            tensor, word = self._zeros(size), self._zeros(_WORD)

            def block(times: int, tensor: Any = tensor, word: Any = word) -> None:
                for _ in range(times):
                    (self._dist.send if sends else self._dist.recv)(tensor, other)
                (self._dist.recv if sends else self._dist.send)(word, other)
                self._wait()

            block(1)
            begin = time.perf_counter()
            block(1)
            once, mark = time.perf_counter() - begin, f"{key}/{size}"
            blocks, times = self._say(mark, once) if sends else self._told(mark)
            best = once
            for _ in range(blocks):
                begin = time.perf_counter()
                block(times)
                best = min(best, (time.perf_counter() - begin) / times)
            if sends:
                self._tell(size=size, seconds=best)
            if not blocks:
                return
