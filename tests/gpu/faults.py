"""Kill a rank in the middle of training, then stop one: noticed, named, nothing left behind.

usage: faults.py DEMO_FOLDER [kill] [stop]
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from derived import Demo, gpu_memory, wait_for

from pyswiftops.errors import StageFailedError

HANG_TIMEOUT = 20  # so a process that is stopped is noticed after 10 s
ENOUGH_STEPS = 5
INTERCONNECT = re.compile(r"(NCCL|NVSHMEM|TORCH_SYMM_MEM)_")
SLACK_MIB = 64


def rank_of(state: dict[str, Any]) -> int | None:
    """Pid of the process that runs Megatron itself, once it is there."""
    for pid, _ in state.get("descendants", []):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"_megatron/sft.py") for word in words) and b"-m" not in words[:3]:
            return int(pid)
    return None


def check_environment(pid: int) -> None:
    """What the machine sets for its interconnect must have reached the rank."""
    found = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    machine = [f"{name}={value}" for name, value in os.environ.items() if INTERCONNECT.match(name)]
    lost = set(machine) - set(found)
    assert not lost, f"the rank lacks {sorted(lost)}"
    print(f"the rank has what the machine sets: {', '.join(machine) or 'nothing'}")


def fault(demo: Demo, kind: str, victim: str, number: int) -> None:
    """Send a signal to the victim node's rank in the middle of training."""
    before = gpu_memory()
    plan = demo.plan(kind, iterations=1_000_000, hang_timeout=HANG_TIMEOUT)
    caught: list[StageFailedError] = []

    def train() -> None:
        try:
            demo.train(plan)
        except StageFailedError as problem:
            caught.append(problem)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    wait_for(lambda: len(demo.steps(kind)) > ENOUGH_STEPS, 300, "training steps")
    states = [demo.state(name, kind) for name in demo.names]
    tree = {pid for state in states for pid, _ in state["descendants"]}

    def found() -> dict[str, int]:
        ranks = {name: rank_of(demo.state(name, kind)) for name in demo.names}
        return {name: pid for name, pid in ranks.items() if pid} if all(ranks.values()) else {}

    ranks = wait_for(found, 10, "the ranks' processes")
    pid = ranks[victim]
    check_environment(pid)
    during = gpu_memory()
    os.kill(pid, number)
    began, clock = time.monotonic(), time.time()

    def over() -> bool:
        return all(demo.state(name, kind).get("state") == "failed" for name in demo.names)

    wait_for(over, 120, "all nodes to stop")
    took = time.monotonic() - began
    thread.join(120)
    states_by_name = {name: demo.state(name, kind) for name in demo.names}
    for name, state in states_by_name.items():
        reason = state["reason"]
        after = reason["at"] - clock
        print(f"{kind} {name}: {reason['kind']} after {after:.1f} s: {reason['detail']}")
        stacks = demo.node(name, kind) / "jobs" / "train" / "stacks"
        if stacks.exists():
            text = stacks.read_text(encoding="utf-8")
            print(f"{kind} {name}: stacks of {text.count('# process ')} processes, among them")
            print(text[text.find(f"# process {ranks[name]} ") :][:1500])
    (problem,) = caught
    print(f"{kind} shown: {problem}".replace("\n", "\n  | "))
    assert problem.node == victim, f"{problem.node} is named, not {victim}"
    if kind == "stop":
        assert states_by_name[victim]["reason"]["kind"] == "hung"
        assert str(pid) in problem.detail
    left = [each for each in tree if Path(f"/proc/{each}").exists()]
    assert not left, f"processes {left} are left"

    def freed() -> bool:
        return all(now <= then + SLACK_MIB for now, then in zip(gpu_memory(), before, strict=True))

    wait_for(freed, 20, f"GPU memory as before ({before} MiB)")
    print(
        f"RESULT fault={kind} victim={victim} all_stopped_s={took:.1f} processes_left=0 "
        f"gpu_mib_before={before} during={during} after={gpu_memory()}"
    )


def main() -> None:
    """Both faults, or those that are named."""
    demo = Demo(Path(sys.argv[1]))
    cases = {
        "kill": (demo.names[-1], signal.SIGKILL),
        "stop": (demo.names[0], signal.SIGSTOP),
    }
    for kind in sys.argv[2:] or cases:
        try:
            fault(demo, kind, *cases[kind])
        finally:
            demo.client.stop(kind)


if __name__ == "__main__":
    main()
