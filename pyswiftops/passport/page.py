"""The passport as one HTML file that needs nothing else: no script, no request."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

WIDTH, HEIGHT = 720.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 12.0, 12.0, 34.0
TICKS = 4
MOST_NODES = 8
"""Commands that are shown of one job; passport.json holds those of all nodes."""


def page(passport: Mapping[str, Any]) -> str:
    """The page of a passport; every value in it is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "clock": clock,
        "day": day,
        "names": names,
        "plain": plain,
        "size": size,
    }
    source = files("pyswiftops.passport").joinpath("page.html.j2").read_text(encoding="utf-8")
    longest = max((item["seconds"] or 0 for item in passport["stages"]), default=0) or 1
    return environment.from_string(source).render(
        passport=passport,
        chart=chart(passport["loss"]["points"]),
        commands=commands(passport["commands"]),
        nodes=[node["name"] for node in passport["fleet"]["nodes"]],
        longest=longest,
    )


def chart(points: Sequence[Sequence[float | None]]) -> dict[str, Any] | None:
    """The loss curve as coordinates of an SVG; None for fewer than two points."""
    known = [(float(point[0] or 0), float(point[1])) for point in points if point[1] is not None]
    if len(known) < 2:  # noqa: PLR2004 (a line has two ends)
        return None
    first, last = known[0][0], known[-1][0]
    low, high = min(loss for _, loss in known), max(loss for _, loss in known)
    span_x, span_y = (last - first) or 1.0, (high - low) or abs(high) or 1.0

    def x(step: float) -> float:
        return round(LEFT + (step - first) / span_x * (WIDTH - LEFT - RIGHT), 1)

    def y(loss: float) -> float:
        return round(TOP + (high - loss) / span_y * (HEIGHT - TOP - BOTTOM), 1)

    losses = [low + span_y * number / TICKS for number in range(TICKS + 1)] if high > low else [low]
    steps = sorted({round(first + span_x * number / TICKS) for number in range(TICKS + 1)})
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "line": " ".join(f"{x(step)},{y(loss)}" for step, loss in known),
        "rows": [{"y": y(loss), "text": f"{loss:.3g}"} for loss in losses],
        "columns": [{"x": x(step), "text": str(step)} for step in steps],
        "end": {"x": x(last), "y": y(known[-1][1])},
        "told": (
            f"Loss from {known[0][1]:.4g} at step {first:.0f} to {known[-1][1]:.4g} at step "
            f"{last:.0f}; lowest {low:.4g}, highest {high:.4g}."
        ),
    }


def commands(jobs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each job's commands as one would type them, for the first nodes."""
    return [
        {
            "job": job,
            "more": max(0, len(nodes) - MOST_NODES),
            "nodes": [
                {
                    "node": node,
                    "argv": typed(command["argv"]),
                    "env": "\n".join(
                        f"{name}={shlex.quote(value)}" for name, value in command["env"].items()
                    ),
                }
                for node, command in list(nodes.items())[:MOST_NODES]
            ],
        }
        for job, nodes in jobs.items()
    ]


def typed(argv: Sequence[str]) -> str:
    """A command with each flag on a line of its own."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(word if word.startswith("{") else shlex.quote(word))
    return " \\\n  ".join(" ".join(words) for words in lines)


def clock(seconds: float | None) -> str:
    """Seconds as 3.2 s, 4 min 05 s or 2 h 04 min."""
    if seconds is None:
        return ""
    if seconds < 60:  # noqa: PLR2004 (a minute)
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def day(stamp: float | None) -> str:
    """Seconds since the epoch as a date and time, in UTC."""
    if stamp is None:
        return ""
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def names(nodes: Sequence[str]) -> str:
    """Nodes by name, or the first ones and how many more."""
    shown = ", ".join(nodes[:MOST_NODES])
    return f"{shown} and {len(nodes) - MOST_NODES} more" if len(nodes) > MOST_NODES else shown


def plain(data: Any) -> str:
    """Data as YAML."""
    return str(yaml.safe_dump(json.loads(json.dumps(data)), sort_keys=False, allow_unicode=True))


def size(count: float | None) -> str:
    """Bytes for a person."""
    if count is None:
        return ""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 (SI)
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"
