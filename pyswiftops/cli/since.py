"""Times as the command line takes them: a length of time ago, or a date."""

from __future__ import annotations

import re
import time
from datetime import datetime

from pyswiftops.errors import BadInputError, Finding

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
AGO = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


def moment(text: str, option: str) -> float:
    """Seconds since the epoch of ``10m`` (ago) or of a date such as ``2026-07-01T12:30``.

    A date without a zone is meant in this machine's.

    Raises:
        BadInputError: it is neither.
    """
    ago = AGO.fullmatch(text)
    if ago:
        return max(0.0, time.time() - int(ago[1]) * UNITS[ago[2]])
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        raise BadInputError(
            Finding(
                "a time ago as 90s, 10m, 2h or 3d, or a date as 2026-07-01T12:30",
                repr(text),
                option,
                f"{option} 10m",
            )
        ) from None
