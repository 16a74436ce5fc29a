"""What the network itself counts: segments that were sent twice, errors of RDMA ports.

Standard library only, Python 3.9 or newer; Linux.
"""

from __future__ import annotations

from pathlib import Path

RDMA = (
    "hw_counters/local_ack_timeout_err",
    "hw_counters/out_of_sequence",
    "hw_counters/packet_seq_err",
    "hw_counters/roce_adp_retrans",
    "counters/symbol_error",
    "counters/port_rcv_errors",
    "counters/link_downed",
)
SENT, AGAIN = "sent", "sent again"


def tcp(text: str) -> dict[str, int]:
    """Segments sent and sent again, of ``/proc/net/snmp``."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("Tcp:")]
    known = dict(zip(*lines)) if len(lines) == 2 else {}  # noqa: B905, PLR2004 names and numbers
    return {SENT: int(known.get("OutSegs", 0)), AGAIN: int(known.get("RetransSegs", 0))}


def rdma(devices: Path) -> dict[str, int]:
    """Errors of all ports below ``/sys/class/infiniband``, as ``mlx5_0/1 out_of_sequence``."""
    found = {}
    for port in sorted(devices.glob("*/ports/*")):
        for name in RDMA:
            try:
                value = int((port / name).read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
            found[f"{port.parent.parent.name}/{port.name} {name.rpartition('/')[2]}"] = value
    return found


def read(root: Path = Path("/")) -> dict[str, int]:
    """All of them now."""
    try:
        text = (root / "proc/net/snmp").read_text(encoding="ascii")
    except OSError:
        text = ""
    return {**tcp(text), **rdma(root / "sys/class/infiniband")}


def cards(root: Path = Path("/")) -> list[str]:
    """RDMA devices of this node."""
    return sorted(path.name for path in (root / "sys/class/infiniband").glob("*"))


def since(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """What was added in between; what did not change is left out."""
    added = {name: value - before.get(name, value) for name, value in now.items()}
    return {name: value for name, value in added.items() if value}
