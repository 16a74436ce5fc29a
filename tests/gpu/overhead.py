"""Tokens/s of training that we start against the same ``megatron sft`` started by hand.

usage: overhead.py DEMO_FOLDER [ITERATIONS] [PAIRS] [SECONDS]

One warm-up by hand, then pairs whose order alternates; no pair starts that would not end within
SECONDS. By hand: the plan's own commands, environment and all, typed into a shell on every node.
``overhead_ratio`` compares whole stages, start-up and launch included; ``steady_ratio`` only the
steps after the first 20. Intervals are Student's t over the pairs' log ratios, 95 %.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from derived import Demo, gpu_memory

from pyswiftops.planner.plan import Plan

MASTER_PORT = 24873
WARM_STEPS = 20
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def by_hand(demo: Demo, plan: Plan) -> float:
    """Start the plan's training commands side by side; return their wall seconds."""
    values = {"lease.master_port": MASTER_PORT}
    begin = time.monotonic()
    running = []
    for command in plan.jobs["train"]:
        bound = command.bind(values)
        for folder in (bound.cwd, *bound.make_directories):
            Path(folder).mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **{name: str(value) for name, value in bound.env.items()}}
        env["PATH"] = os.pathsep.join([*bound.path, env["PATH"]])
        program = shutil.which(str(bound.argv[0]), path=env["PATH"])
        assert program is not None
        argv = [program, *(str(word) for word in bound.argv[1:])]
        with Path(demo.node(command.node, plan.run_id), "by-hand.log").open("wb") as log:
            running.append(subprocess.Popen(argv, cwd=bound.cwd, env=env, stdout=log, stderr=log))
    codes = [process.wait() for process in running]
    assert not any(codes), f"by hand failed: {codes}"
    return time.monotonic() - begin


def steady(demo: Demo, run_id: str) -> float:
    """Seconds a step, after the first steps; a line's train_speed is the mean up to it."""
    lines = demo.steps(run_id)
    marks = {}
    for line in lines:
        step = int(line["iteration"].split("/")[0])
        marks[step] = float(line["train_speed(s/it)"]) * step
    first, last = min(WARM_STEPS, len(marks) // 2), max(marks)
    return (marks[last] - marks[first]) / (last - first)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Mean ratio and its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), 0.0, math.inf
    spread = STUDENT[min(len(logs) - 1, max(STUDENT))] * statistics.stdev(logs)
    half = spread / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main() -> None:
    """Run the pairs and print the table."""
    demo = Demo(Path(sys.argv[1]))
    iterations, pairs, seconds = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((2, 200), (3, 3), (4, 3600))
    )
    begin = time.monotonic()
    tokens = demo.spec.training.global_batch_size * demo.lengths["tokens"] / demo.lengths["rows"]
    walls: dict[str, list[float]] = {"hand": [], "ours": []}
    steps: dict[str, list[float]] = {"hand": [], "ours": []}

    def once(side: str, number: int) -> float:
        # The same length of run id, so that paths are alike.
        plan = demo.plan(f"{side}-{number}", iterations=iterations)
        wall = by_hand(demo, plan) if side == "hand" else demo.train(plan)
        took = steady(demo, plan.run_id)
        for name in demo.names:
            shutil.rmtree(demo.node(name, plan.run_id) / "train", ignore_errors=True)
        print(f"{side} {number}: {wall:.1f} s, {took * 1000:.2f} ms a step", flush=True)
        if number:
            walls[side].append(wall)
            steps[side].append(took)
        return wall

    longest = once("hand", 0)
    for number in range(1, pairs + 1):
        if time.monotonic() - begin + 2.3 * longest > seconds:
            print(f"time is up after {number - 1} pairs")
            break
        for side in ("ours", "hand") if number % 2 else ("hand", "ours"):
            longest = max(longest, once(side, number))
    rates = {side: [tokens * iterations / wall for wall in walls[side]] for side in walls}
    whole = interval([a / b for a, b in zip(rates["ours"], rates["hand"], strict=True)])
    even = interval([b / a for a, b in zip(steps["ours"], steps["hand"], strict=True)])
    more = statistics.fmean(walls["ours"]) - statistics.fmean(walls["hand"])
    for side in ("hand", "ours"):
        inner = statistics.fmean(tokens / step for step in steps[side])
        print(
            f"{side}: {statistics.fmean(rates[side]):.0f} tokens/s over the whole stage, "
            f"{inner:.0f} tokens/s from step {WARM_STEPS} on"
        )
    print(json.dumps({"walls": walls, "seconds_per_step": steps}))
    print(
        f"RESULT overhead_ratio={whole[0]:.4f} low={whole[1]:.4f} high={whole[2]:.4f} "
        f"steady_ratio={even[0]:.4f} steady_low={even[1]:.4f} steady_high={even[2]:.4f} "
        f"launch_s={more:.1f} pairs={len(walls['ours'])} iterations={iterations} "
        f"gpus={len(gpu_memory())} cores={os.cpu_count()} python={platform.python_version()}"
    )


if __name__ == "__main__":
    main()
