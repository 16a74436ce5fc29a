"""Every stage's commands for 512 nodes, in every release line that can be rendered.

Beside it, in turn: the same for one node, times 512, which is what it would cost if nothing were
shared between nodes.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

from pyswiftops.planner.plan import make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages import lines

NODES, ROUNDS = 512, 5
AT = Path("/nowhere.yml")
RUN = {
    "name": "render",
    "model": {"path": "/models/m"},
    "data": {"train": ["/data/rows.jsonl"]},
    "method": {"tuner": "full"},  # what the oldest line can do too
    "training": {"epochs": 1, "global_batch_size": 4096},
    "smoke": {"questions": [{"ask": "Who are you?", "expect": ["I"]}]},
}


def seconds(fleet: Fleet, spec: RunSpec) -> float:
    """One plan."""
    begin = time.perf_counter()
    plan = make_plan(fleet, spec, "render")
    took = time.perf_counter() - begin
    assert len(plan.jobs["train"]) == len(fleet.nodes)
    return took


def main() -> None:
    """Measure and print the table."""
    spec = RunSpec.from_document({"run": RUN}, AT)
    print(f"{'line':<6}{'512 nodes, s':>14}{'1 node x 512, s':>18}{'ratio':>8}")
    worst, ratios = 0.0, []
    for line in lines.rendered():
        many, one = (
            Fleet.from_document({**document(nodes), "line": line}, AT) for nodes in (NODES, 1)
        )
        took: dict[str, list[float]] = {"many": [], "one": []}
        for turn in range(ROUNDS):
            pair = [("many", many), ("one", one)]
            for name, fleet in pair if turn % 2 else reversed(pair):
                took[name].append(seconds(fleet, spec))
        all_of_them = statistics.median(took["many"])
        single = statistics.median(took["one"]) * NODES
        worst, ratios = max(worst, all_of_them), [*ratios, all_of_them / single]
        print(f"{line:<6}{all_of_them:>14.3f}{single:>18.3f}{all_of_them / single:>8.3f}")
    print(
        f"RESULT render_512_s={worst:.3f} ratio={statistics.median(ratios):.3f} "
        f"lines={len(ratios)} cores={os.cpu_count()} python={sys.version.split()[0]}"
    )


def document(nodes: int) -> dict[str, object]:
    """A fleet file of hosts with eight GPUs each."""
    named = [
        {"name": f"n{n}", "address": f"10.0.{n // 250}.{n % 250 + 1}", "gpus": 8}
        for n in range(nodes)
    ]
    return {"plugin": "pyswiftops.fleet.fleet", "runtime": "host", "root": "/data", "nodes": named}


if __name__ == "__main__":
    main()
