"""Who measures with whom, and when: pure.

Three kinds of rounds, one after the other. An all-reduce over everybody, as training does it. The
same over halves, quarters and so on, all parts of a level at once. Then pairs, as a round-robin
tournament by the circle method: one node stands still, the others walk around it, so that n nodes
meet each other once in n - 1 rounds (n rounds where n is odd), n / 2 pairs at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

ALL_REDUCE, PAIR = "all_reduce", "pair"
ALONE = 8  # so many suspects are measured one at a time

Pair = tuple[str, str]
Round = list[dict[str, Any]]


def tournament(nodes: Sequence[str]) -> list[list[Pair]]:
    """Rounds of disjoint pairs in which every two meet once; in a pair the order of ``nodes``."""
    players: list[str | None] = [*nodes, *([None] if len(nodes) % 2 else [])]
    place = {node: index for index, node in enumerate(nodes)}
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        facing = zip(players[:half], reversed(players[half:]), strict=True)
        met = [(one, two) for one, two in facing if one is not None and two is not None]
        rounds.append([(one, two) if place[one] < place[two] else (two, one) for one, two in met])
        players = [players[0], players[-1], *players[1:-1]]
    return rounds


def halves(nodes: Sequence[str]) -> list[list[list[str]]]:
    """Levels of ever smaller parts, neighbours together: halves first, none below three nodes."""
    levels: list[list[list[str]]] = []
    parts = [list(nodes)]
    while True:
        parts = [
            half
            for part in parts
            for half in (part[: (len(part) + 1) // 2], part[(len(part) + 1) // 2 :])
            if len(half) > 2  # noqa: PLR2004 pairs come later, each with each
        ]
        if not parts:
            return levels
        levels.append(parts)


def rounds(nodes: Sequence[str], *, pairs: bool) -> list[Round]:
    """Everything: all, parts, pairs.

    Args:
        nodes: In rank order.
        pairs: Also every two of them; without, parts go down to pairs of neighbours.
    """
    levels = halves(nodes)
    found = [_group(ALL_REDUCE, [list(nodes)]), *(_group(ALL_REDUCE, parts) for parts in levels)]
    met = tournament(nodes) if pairs else [list(zip(nodes[::2], nodes[1::2], strict=False))]
    return found + [of_pairs(pairs) for pairs in met if pairs]


def again(suspects: Iterable[Pair]) -> list[Round]:
    """A second look at some pairs, twice, as other work on a node comes and goes.

    One at a time, or where they are many, disjoint ones at once.
    """
    left = list(dict.fromkeys(suspects))
    if len(left) <= ALONE:
        return [of_pairs([pair]) for pair in left] * 2
    found = []
    while left:
        chosen: list[Pair] = []
        for pair in left:
            if not {name for other in chosen for name in other} & set(pair):
                chosen.append(pair)
        left = [pair for pair in left if pair not in chosen]
        found.append(of_pairs(chosen))
    return found * 2


def of_pairs(pairs: Iterable[Pair]) -> Round:
    """A round of disjoint pairs."""
    return _group(PAIR, pairs)


def _group(kind: str, parts: Iterable[Sequence[str]]) -> Round:
    return [{"kind": kind, "nodes": list(part)} for part in parts]
