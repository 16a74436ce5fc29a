"""Rates of all pairs as a heat map: cells of a terminal, and an SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from pyswiftops.fabric.readings import Direction, Link

SHADES = " ░▒▓█"
FONT = 'font-family="sans-serif" font-size="11"'
CELL, MARGIN, HEAD = 36, 96, 60
_MUCH = 20  # so many nodes and more get no numbers in their cells
_BAD, _NONE = "#b40426", "#dddddd"


def shades(nodes: Sequence[str], links: Mapping[Direction, Link]) -> list[str]:
    """A line a sender, a cell a receiver: the fuller, the faster; ``xx`` is broken."""
    most = _most(links)
    return ["".join(_shade(links.get((one, two)), most, same=one == two) for two in nodes)
            for one in nodes]  # fmt: skip


def _shade(link: Link | None, most: float, *, same: bool) -> str:
    if same:
        return "--"
    if link is None or (link.rate is None and not link.broken):
        return "··"
    if link.broken or link.rate is None:
        return "xx"
    return SHADES[max(1, round(link.rate / most * (len(SHADES) - 1)))] * 2


def svg(nodes: Sequence[str], links: Mapping[Direction, Link], title: str) -> str:
    """The heat map as an SVG document; rows send, columns receive, numbers are GB/s."""
    most, count = _most(links), len(nodes)
    width, height = MARGIN + CELL * count + 12, HEAD + MARGIN + CELL * count + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="14">{escape(title)}</text>',
        '<text x="8" y="38" fill="#555">rows send, columns receive; GB/s</text>',
    ]
    top = HEAD + MARGIN
    for index, node in enumerate(nodes):
        middle = CELL * index + CELL // 2 + 4
        parts.append(
            f'<text x="{MARGIN - 6}" y="{top + middle}" text-anchor="end">{escape(node)}</text>'
        )
        x, y = MARGIN + middle, top - 6
        parts.append(f'<text transform="translate({x},{y}) rotate(-60)">{escape(node)}</text>')
    for row, one in enumerate(nodes):
        for column, two in enumerate(nodes):
            if one != two:
                where = (MARGIN + CELL * column, top + CELL * row)
                parts += _cell(where, f"{one} to {two}", links.get((one, two)), most,
                               numbers=count < _MUCH)  # fmt: skip
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cell(
    where: tuple[int, int], name: str, link: Link | None, most: float, *, numbers: bool
) -> list[str]:
    x, y = where
    fill, text, ink = _NONE, "", "black"
    if link is not None and link.broken:
        fill, text, ink, name = _BAD, "x", "white", f"{name}: {link.broken}"
    elif link is not None and link.rate is not None:
        share = link.rate / most
        fill, text = _colour(share), f"{link.rate / 1e9:.3g}"
        name, ink = f"{name}: {text} GB/s", "black" if share > 0.35 else "white"  # noqa: PLR2004
    box = (
        f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="{fill}">'
        f"<title>{escape(name)}</title></rect>"
    )
    middle = (x + CELL // 2, y + CELL // 2 + 4)
    words = (
        f'<text x="{middle[0]}" y="{middle[1]}" text-anchor="middle" fill="{ink}" '
        f'font-size="10" pointer-events="none">{text}</text>'
    )
    return [box, words] if text and numbers else [box]


def _colour(share: float) -> str:
    """From dark violet (slow) over green to yellow (fast), as viridis goes."""
    stops = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    part = place - low
    mixed = (round(a + (b - a) * part) for a, b in zip(stops[low], stops[low + 1], strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _most(links: Mapping[Direction, Link]) -> float:
    return max((link.rate for link in links.values() if link.rate and not link.broken), default=1.0)
