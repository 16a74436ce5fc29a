"""Times as the command line takes them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from pyswiftops.cli.since import moment
from pyswiftops.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259200)]
)
def test_a_time_ago(text: str, seconds: int) -> None:
    assert moment(text, "--since") == pytest.approx(time.time() - seconds, abs=5)


def test_a_date_with_and_without_a_zone() -> None:
    here = datetime(2026, 7, 1, 12, 30).astimezone()
    assert moment("2026-07-01T12:30", "--since") == here.timestamp()
    assert moment("2026-07-01T12:30:00+08:00", "--since") == 1782880200


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "1.5h", "10 m", "yesterday", "2026-13-01"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="--since"):
        moment(text, "--since")
