"""Look at this machine as ``swiftops preflight`` looks at a node, with GPUs at rest and at work.

usage: preflight.py OUT

Needs Python and torch alone: the module's own code looks. A process that is none of ours holds
a GiB of the first GPU while the second look is made. OUT/preflight.json gets both looks, without
what tells one machine from another. Prints what a look took and a RESULT line.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

UTILS = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
alone = types.ModuleType("swiftops_utils")  # the package that Ansible would make of them
alone.__path__ = [str(UTILS)]
sys.modules["swiftops_utils"] = alone
look = importlib.import_module("swiftops_utils.preflight.look").look

HOLD = (
    "import torch, time; held = torch.zeros(1 << 28, device='cuda'); torch.cuda.synchronize(); "
    "print('held', flush=True); time.sleep(120)"
)
SUBJECTS = ("gpus", "processes", "kernel_log", "shm", "limits")


def request(root: Path) -> dict[str, Any]:
    """What one node, this machine, is asked."""
    own = root / "node-1"
    own.mkdir(parents=True, exist_ok=True)
    node = {
        "address": "127.0.0.1",
        "ports": [20101, 40101],
        "root": str(own),
        "python": sys.executable,
        "env": {},
        "paths": {"root": str(own), "tmp": "/tmp"},  # noqa: S108 looked at only
        "taken": [],
        "model": "",
    }
    told = {"token": "gpu", "seconds": 5, "device": "gpu", "probes": [], "packages": []}
    return {**told, "nodes": {"node-1": node}}


def plain(told: dict[str, Any]) -> dict[str, Any]:
    """A look without serial numbers."""
    known = {gpu["uuid"]: f"GPU-{gpu['index']}" for gpu in told["gpus"].get("gpus", ())}
    text = json.dumps({name: told[name] for name in SUBJECTS})
    for uuid, name in known.items():
        text = text.replace(uuid, name)
    assert not re.search(r"GPU-[0-9a-f]{8}-", text), text
    made: dict[str, Any] = json.loads(text)
    return made


def main(folder: Path) -> None:
    """Look twice, and keep both."""
    folder.mkdir(parents=True, exist_ok=True)
    looks, seconds = {}, {}
    holder = None
    try:
        for name in ("at rest", "at work"):
            if name == "at work":
                words = [sys.executable, "-c", HOLD]
                holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
                assert holder.stdout is not None
                assert holder.stdout.readline() == "held\n"
            begin = time.monotonic()
            told = look("node-1", request(folder / "roots"))
            seconds[name] = time.monotonic() - begin
            looks[name] = plain(told)
    finally:
        if holder is not None:
            holder.kill()
            looks["holder"] = {"pid": holder.pid}
    (folder / "preflight.json").write_text(json.dumps(looks, indent=1), encoding="utf-8")
    users = looks["at work"]["processes"]["gpu"]
    print(f"looks: {seconds}; on GPUs at rest: {looks['at rest']['processes']['gpu']}")
    print(f"at work: {users}; the holder is {looks['holder']}")
    print(
        f"RESULT gpus={len(looks['at rest']['gpus']['gpus'])} "
        f"holder_seen={any(item['pid'] == looks['holder']['pid'] for item in users)} "
        f"look_s={seconds['at rest']:.2f}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
