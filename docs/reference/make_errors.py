# ruff: noqa: INP001 -- a script beside the file that it writes
"""Write the table of upstream's errors, ``upstream-errors.md``, out of the package's own list.

``python docs/reference/make_errors.py`` after a change of ``pyswiftops/explanations.yml``;
``tests/unit/explain/test_page.py`` fails until that is done.
"""

from __future__ import annotations

from pathlib import Path

from pyswiftops.explain import KnownError, known_errors

PAGE = Path(__file__).with_name("upstream-errors.md")
HEAD = """\
# Errors of upstream

What a failed stage says of an error that PyTorch, NCCL, ms-swift, Megatron or the system printed.
The message ends with these lines, after the log's last ones:

```
  means: Another process listens on the port already, often the rest of an earlier run.
 remedy: See who it is with ss -ltnp on the node, ...
  known: port-in-use (https://github.com/pytorch/pytorch/issues/126510)
```

Of several errors in a log the first is told, as later ones mostly follow from it. An error that is
known to follow from another (marked *follows*) is told only where no other is found. A text that is
not in this list is shown as it is, without a guess. After an error that may be gone the next time
(marked *passes*) training goes on by itself, where [`run.retry`](run.md#runretry) allows it.

How well an entry is known: **run** was raised by the real library in a test or on a machine of this
project; **source** was read in the library's source; **thread** was read in an issue.

From Python: `pyswiftops.explain.explain(text)` gives the explanation or None.

The list is `pyswiftops/explanations.yml`; this page is written from it.

| name | means | what to do | known from |
|---|---|---|---|
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")


def _marks(known: KnownError) -> str:
    return (" (*follows*)" if known.secondary else "") + (" (*passes*)" if known.passes else "")


def text() -> str:
    """What the page must hold."""
    rows = [
        f"| `{known.id}`{_marks(known)} "
        f"| {_cell(known.means)} "
        f"| {_cell(known.remedy)} | {_cell(known.source)}; {known.grade} |\n"
        for known in known_errors()
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
