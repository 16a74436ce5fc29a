"""Errors of upstream recognised in a log: what each means, and what to do.

The known ones stand in ``explanations.yml`` beside this file; ``docs/reference/upstream-errors.md``
is the same list for readers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from pyswiftops.specs.document import Model

FILE = Path(__file__).with_name("explanations.yml")
MOST_TEXT = 500_000  # characters of a log that are looked at, from its end


class KnownError(Model):
    """One error that upstream is known for.

    Attributes:
        id: Its name here.
        patterns: Regular expressions; one that is found is enough.
        means: What has happened, in one or two sentences.
        remedy: What to do: a command, or a key of the fleet file or the run file.
        source: Where the text, its cause and its remedy are known from.
        grade: ``run``: raised here by the real library; ``source``: read in its source;
            ``thread``: read in an issue.
        secondary: Whether it mostly follows from another error, which is told instead if found.
        alert: The kind of alert that it is as well.
        passes: Whether the same training may succeed the next time: a machine or the network
            failed, and not the run.
        broken: Whether the machine that told it will go on failing.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    patterns: list[re.Pattern[str]] = Field(min_length=1)
    means: str
    remedy: str
    source: str
    grade: Literal["run", "source", "thread"]
    secondary: bool = False
    alert: Literal["nan"] | None = None
    passes: bool = False
    broken: bool = False


@dataclass(frozen=True)
class Explanation:
    """What an error in a log means.

    Attributes:
        id: The known error's name.
        line: The log line that told it.
        means: What has happened.
        remedy: What to do.
        source: Where this is known from.
        alert: The kind of alert that it is as well.
        passes: Whether the same training may succeed the next time.
        broken: Whether the machine that told it will go on failing.
    """

    id: str
    line: str
    means: str
    remedy: str
    source: str
    alert: Literal["nan"] | None = None
    passes: bool = False
    broken: bool = False

    def __str__(self) -> str:
        return f"  means: {self.means}\n remedy: {self.remedy}\n  known: {self.id} ({self.source})"


@cache
def known_errors() -> tuple[KnownError, ...]:
    """All errors that are recognised, the specific ones before the general."""
    items = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(KnownError.model_validate(item) for item in items)


def explain(text: str) -> Explanation | None:
    """Explain the error in a log, or in the last lines of one.

    Of several, the first is told, as later ones mostly follow from it; but one that is known to
    be a consequence (a peer that vanished, a timeout) only where no other is found.

    Args:
        text: The log; of a very long one only the end is looked at.

    Returns:
        The explanation, or None where nothing is recognised.
    """
    text = text[-MOST_TEXT:]
    best: tuple[bool, int] | None = None
    told = None
    for known in known_errors():
        starts = [found.start() for pattern in known.patterns if (found := pattern.search(text))]
        if not starts:
            continue
        begin = text.rfind("\n", 0, min(starts)) + 1
        if best is None or (known.secondary, begin) < best:  # in one line the specific one
            best = (known.secondary, begin)
            line = text[begin:].split("\n", 1)[0].strip()
            told = Explanation(
                **known.model_dump(include={*Explanation.__dataclass_fields__} - {"line"}),
                line=line,
            )
    return told
