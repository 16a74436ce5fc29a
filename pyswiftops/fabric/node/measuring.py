"""The program of ``swiftops check-fabric`` on a node: ``python -m node.measuring REQUEST``.

Goes through the rounds of the request in turn and writes after each what came of it, so that what
was measured stands whatever comes later. Its own time is limited, whatever a link does.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from . import counters
from .meeting import Meeting, Place, Unmet
from .ranks import Forker

PORTS = range(20000, 30000)
MOST_LINES = 60
VARIABLE = "SWIFTOPS_FABRIC_TOKEN"
_KEPT = re.compile(
    r"NCCL WARN|set by environment|via |Using network|NET/\w+ : |GPU Direct RDMA|NCCL version"
)
_HEAD = re.compile(r"^.*? NCCL (?:INFO|WARN) |^.*?(?=NCCL version)")
_CHANNEL = re.compile(r"^(?:Channel|Ring) \S+ : \S+ -> \S+ ")


def main(path: Path) -> int:
    """Measure what the request asks for; 0 also where links are broken, as that is a result."""
    request = json.loads(path.read_text(encoding="utf-8"))
    result = Path(request["result"])
    rounds = request["rounds"]
    forker = Forker()
    told: dict[str, Any] = {"check": request["check"], "cards": counters.cards(), "rounds": []}
    told.update(forker.loaded)
    write(result, told)
    if "error" in told:
        say(told["error"])
        return 1
    threading.Thread(
        target=end,
        args=(request["grace"] + (len(rounds) + 1) * (request["seconds"] + 15),),
        daemon=True,
    ).start()
    node = Node(request, forker)
    for number, groups in enumerate(rounds):
        group = next((group for group in groups if request["node"] in group["nodes"]), None)
        if group is not None:
            told["rounds"].append(node.take_part(number, group))
            write(result, told)
    told["ended"] = True
    write(result, told)
    forker.close()
    return 0


def end(seconds: float) -> None:
    """End this process once it has had its time."""
    time.sleep(seconds)
    say(f"ended after {seconds:.0f} s")
    os._exit(3)


def say(text: str) -> None:
    """A line of the job's log."""
    sys.stdout.write(f"fabric: {text}\n")
    sys.stdout.flush()


def write(path: Path, data: dict[str, Any]) -> None:
    """Write JSON so that a reader finds all of it or what was there before."""
    staged = path.with_suffix(".new")
    staged.write_text(json.dumps(data), encoding="utf-8")
    staged.replace(path)


class Node:
    """This node, through all rounds.

    Args:
        request: What the controller asks for.
        forker: What forks ranks.
    """

    def __init__(self, request: dict[str, Any], forker: Forker) -> None:
        self._request, self._forker = request, forker
        self._name = request["node"]
        self._places = {node: Place(*place) for node, place in request["places"].items()}
        self._meeting = Meeting(self._name, self._places, os.environ[VARIABLE], request["grace"])

    def take_part(self, number: int, group: dict[str, Any]) -> dict[str, Any]:
        """One round in one group: what was measured, or why it was not."""
        nodes, begin = group["nodes"], time.monotonic()
        record: dict[str, Any] = {"round": number, "kind": group["kind"], "nodes": nodes}
        try:
            port = self._met(number, nodes)
        except Unmet as problem:
            record["unmet"] = str(problem)
        else:
            before = counters.read()
            record["ranks"] = self._forker.run(self._task(number, group, port))
            record["counted"] = counters.since(before, counters.read())
            record["nccl"] = self._nccl(number)
        record["seconds"] = round(time.monotonic() - begin, 3)
        say(f"round {number}, {group['kind']} of {', '.join(nodes)}: {summary(record)}")
        return record

    def _met(self, number: int, nodes: list[str]) -> int:
        if nodes[0] != self._name:
            return self._meeting.follow(number, nodes[0])
        port = free_port(self._places[self._name].host, number)
        self._meeting.lead(number, nodes[1:], port)
        return port

    def _task(self, number: int, group: dict[str, Any], port: int) -> dict[str, Any]:
        request, nodes = self._request, group["nodes"]
        ranks = {node: request["ranks"][node] for node in nodes}
        if group["kind"] == "pair":
            ranks = dict.fromkeys(nodes, min(ranks.values()))
        before = nodes[: nodes.index(self._name)]
        return {
            "ranks": ranks[self._name],
            "world": sum(ranks.values()),
            "first": sum(ranks[node] for node in before),
            "host": self._places[nodes[0]].host,
            "port": port,
            "kind": group["kind"],
            "debug": str(self._debug(number)) if request["backend"] == "nccl" else "",
            **{name: request[name] for name in ("backend", "sizes", "budget", "seconds")},
        }

    def _debug(self, number: int) -> Path:
        return Path(self._request["result"]).parent / "nccl" / f"round-{number}"

    def _nccl(self, number: int) -> list[str]:
        files = sorted(self._debug(number).parent.glob(f"round-{number}.*"))
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
        return nccl_lines("\n".join(texts))


def nccl_lines(text: str) -> list[str]:
    """Of NCCL's debug output the lines that tell ways and devices, each kind once."""
    kept = (_HEAD.sub("", line) for line in text.splitlines() if _KEPT.search(line))
    return list(dict.fromkeys(_CHANNEL.sub("", line).strip() for line in kept))[:MOST_LINES]


def summary(record: dict[str, Any]) -> str:
    """A round in a few words, for the log."""
    if "unmet" in record:
        return str(record["unmet"])
    for rank in record["ranks"]:
        if rank["end"]:
            phases = [line["phase"] for line in rank["lines"] if "phase" in line]
            return f"{rank['end']}; last: {phases[-1] if phases else 'nothing'}"
    sent = [
        line["size"] / line["seconds"] for line in record["ranks"][0]["lines"] if "size" in line
    ]
    return f"{max(sent, default=0) / 1e9:.3f} GB/s in {record['seconds']} s"


def free_port(host: str, number: int) -> int:
    """A free port, below those that the kernel gives to connections.

    Raises:
        Unmet: there is none.
    """
    family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
    begin = (os.getpid() * 97 + number * 13) % len(PORTS)
    for index in range(len(PORTS)):
        port = PORTS[(begin + index) % len(PORTS)]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
    raise Unmet(f"no free port of {host} in {PORTS.start} to {PORTS.stop - 1}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
