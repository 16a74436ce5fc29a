"""GPU use while training, and what is told of a loss that leaps or is no number any more.

usage: alerts.py DEMO_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from derived import Demo, gpu_memory

from pyswiftops.errors import StageFailedError
from pyswiftops.events import Event, EventKind

STEPS = 80
RATES = (0.02, 0.1, 1.0)  # reached slowly; one of them is too much for this model


def watched(demo: Demo, run_id: str, **training: Any) -> tuple[list[Event], str]:
    """All events of a training, and what it failed with."""
    seen: list[Event] = []
    plan = demo.plan(run_id, iterations=STEPS, **training)
    try:
        demo.client.apply(plan, stages=["train"], on_event=seen.append)
    except StageFailedError as problem:
        return seen, str(problem)
    return seen, ""


def use(events: list[Event]) -> None:
    """The GPUs were seen at work."""
    gpus = [
        gpu
        for event in events
        if event.kind is EventKind.USAGE
        for gpu in event.data.get("gpus") or ()
    ]
    assert gpus, "no event tells of a GPU"
    busiest = max(gpu["utilisation_percent"] for gpu in gpus)
    fullest = max(gpu["memory_used_bytes"] for gpu in gpus)
    assert busiest > 0
    assert fullest > 1e9
    print(
        f"RESULT gpu_use_events={len(gpus)} busiest_percent={busiest} most_gb={fullest / 1e9:.1f}"
    )


def main() -> None:
    """A rate that leaps, then one that ends in NaN."""
    demo = Demo(Path(sys.argv[1]))
    spikes: list[dict[str, Any]] = []
    for rate in RATES:
        events, _ = watched(demo, "leap", learning_rate=rate, warmup_fraction=0.9)
        use(events)
        told = [dict(event.data) for event in events if event.kind is EventKind.ALERT]
        spikes = [alert for alert in told if alert["kind"] == "spike"]
        if spikes:
            print(
                f"RESULT alert=spike rate={rate} told={len(spikes)} first={spikes[0]['detail']!r}"
            )
            break
    assert spikes
    events, failed = watched(demo, "nan", learning_rate=1e30, alerts={"stop_on_nan": True})
    told = [dict(event.data) for event in events if event.kind is EventKind.ALERT]
    numbers = [alert for alert in told if alert["kind"] == "nan"]
    print(f"nan shown: {failed}".replace("\n", "\n  | "))
    print(
        f"RESULT alert=nan told={len(numbers)} stopped={bool(failed)} gpu_mib_after={gpu_memory()}"
    )
    assert numbers
    assert failed


if __name__ == "__main__":
    main()
