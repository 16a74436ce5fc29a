"""Train with NCCL's peer-to-peer and shared-memory transports off; the log must show the network.

usage: network.py DEMO_FOLDER LOG_FOLDER
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from derived import Demo

RUN_ID = "network"
OFF = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "NCCL_DEBUG": "INFO"}


def main() -> None:
    """Train, read NCCL's log."""
    demo, target = Demo(Path(sys.argv[1])), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    seconds = demo.train(demo.plan(RUN_ID, env=OFF))
    last = demo.steps(RUN_ID)[-1]
    if demo.fleet.device == "cpu":  # no NCCL there
        print(f"RESULT network_claim=none device=cpu train_s={seconds:.1f} loss={last['loss']}")
        return
    text = ""
    for name in demo.names:
        log = Path(demo.node(name, RUN_ID), "jobs", "train", "log").read_text(errors="replace")
        lines = [line for line in log.splitlines() if " NCCL " in line]
        (target / f"nccl-{name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
        text += "\n".join(lines) + "\n"
    ways = {way: len(re.findall(f" via {way}", text)) for way in ("NET/", "P2P", "SHM")}
    print(f"channels by way: {ways}")
    for line in sorted(set(re.findall(r"via NET/\S+", text))):
        print(line)
    assert ways["NET/"], "no channel goes over the network"
    assert not ways["P2P"], "peer-to-peer is off and yet used"
    assert not ways["SHM"], "shared memory is off and yet used"
    for line in sorted(set(re.findall(r"NCCL_\w+ set by environment to \S+", text))):
        print(line)
    print(f"RESULT network_train_s={seconds:.1f} loss={last['loss']} steps={last['iteration']}")


if __name__ == "__main__":
    main()
