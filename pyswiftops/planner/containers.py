"""What a fleet's images and containers are to be, as data. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_DIGITS = 16


def image_definition(dockerfile: str, wheelhouse: Mapping[str, Any], base: str) -> str:
    """The sum of all that an image is built from: text, wheels, id of its base. Its tag."""
    return _sum([dockerfile, base, sorted(wheelhouse["wheels"].items())])


def image_environment(inspected: Mapping[str, Any]) -> dict[str, str]:
    """Variables that an image sets."""
    lines = (inspected.get("Config") or {}).get("Env") or []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _sum(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
