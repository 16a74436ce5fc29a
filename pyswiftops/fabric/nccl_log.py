"""What NCCL says of its ways through the network, read in ``NCCL_DEBUG=INFO`` output: pure.

Sources: NCCL 2.28 ``src/transport/net.cc`` writes ``... [send] via NET/<name>/<device>`` with
``/GDRDMA`` where the network card reads and writes GPU memory itself, ``src/transport/net_ib``
says of each card whether it could, ``src/init.cc`` which network was taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SOCKET = "Socket"
_WAY = re.compile(r"\bvia (NET/(?P<net>[^/]+)/\S*|P2P\S*|SHM\S*)")
_NETWORK = re.compile(r"Using network (?P<net>.+?)\s*$")
_CARDS = re.compile(r"NET/IB : Using (?P<cards>.*?)(?:;|$)")
_CARD = re.compile(r"\[\d+\](?P<name>[^:\s]+):\d+/(?P<layer>\w+)")
_DISABLED = re.compile(r"GPU Direct RDMA Disabled for (?P<what>.+?)\s*$")
_SET = re.compile(r"(?P<name>NCCL_\w+) set by environment to (?P<value>.+?)\.?\s*$")


@dataclass(frozen=True)
class Ways:
    """How NCCL goes from GPU to GPU.

    Attributes:
        network: What it took for other nodes, for instance ``IB`` or ``Socket``; "" if unsaid.
        cards: Network cards of InfiniBand or RoCE, name -> link layer.
        direct: Kinds of channel that bypass host memory, by network -> how many lines.
        staged: Kinds of channel that do not.
        disabled: What GPUDirect is disabled for, in NCCL's words.
        settings: Variables that it says are set by the environment.
    """

    network: str = ""
    cards: Mapping[str, str] = field(default_factory=dict)
    direct: Mapping[str, int] = field(default_factory=dict)
    staged: Mapping[str, int] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def rdma(self) -> tuple[str, ...]:
        """Networks other than sockets that channels use; those could bypass host memory."""
        return tuple(sorted({*self.direct, *self.staged} - {SOCKET}))

    @property
    def bypass(self) -> str:
        """``all``, ``some`` or ``none`` of the channels over such networks use GPUDirect RDMA.

        "" where there is no such channel.
        """
        if not self.rdma:
            return ""
        staged = any(name != SOCKET for name in self.staged)
        return "all" if not staged else "some" if self.direct else "none"


def ways(lines: Iterable[str]) -> Ways:
    """Read NCCL's lines, whole or without what stands before ``NCCL INFO``."""
    network = ""
    cards: dict[str, str] = {}
    settings: dict[str, str] = {}
    direct: Counter[str] = Counter()
    staged: Counter[str] = Counter()
    disabled: list[str] = []
    for line in lines:
        if (found := _WAY.search(line)) and found["net"]:
            (direct if "/GDRDMA" in found[0] else staged)[found["net"]] += 1
        elif found := _NETWORK.search(line):
            network = found["net"]
        elif found := _CARDS.search(line):
            cards |= {card["name"]: card["layer"] for card in _CARD.finditer(found["cards"])}
        elif found := _DISABLED.search(line):
            disabled.append(found["what"])
        elif found := _SET.search(line):
            settings[found["name"]] = found["value"]
    return Ways(network, cards, direct, staged, tuple(dict.fromkeys(disabled)), settings)
