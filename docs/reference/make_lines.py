# ruff: noqa: INP001 -- a script beside the file that it writes
"""Write ``lines.md``: which release line of ms-swift can do what, and how that is proven.

``python docs/reference/make_lines.py`` after a change of the flag tables or of what was run;
``tests/unit/test_docs.py`` fails until that is done.
"""

from __future__ import annotations

from pathlib import Path

from pyswiftops.matrix import rows
from pyswiftops.stages.lines import rendered
from pyswiftops.stages.lines.abilities import ABILITIES, proofs

PAGE = Path(__file__).with_name("lines.md")
HEAD = """\
# Release lines

What `swiftops` can say in each release line of ms-swift, and how that is proven:

- **run**: a pipeline on this project's machines did it;
- parser: the installed package's own parser takes the command (`tests/contract/test_flags.py`);
- classes: the argument classes in the release's wheel have every flag, and the value is of its type
  (`tests/golden/`, and `make contract` for the wheels);
- no: the line cannot do it. A run file that asks for it is refused, with the lines that can.

Checkpoints of lines before 4.0 lie in another layout, so their commands are planned and written as
scripts (`swiftops plan --script`), and the stages after training are not run by the pipeline there.

What each line needs is told by `swiftops matrix LINE`. This page is written by
`docs/reference/make_lines.py` from the flag tables.

"""


def text() -> str:
    """What the page must hold."""
    lines = list(rendered())
    found = {name: proofs(name) for name in lines}
    head = ["what", *lines]
    table = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for ability in ABILITIES:
        cells = [found[name][ability.name] or "no" for name in lines]
        told = ["**run**" if cell == "run" else cell for cell in cells]
        table.append("| " + " | ".join([ability.label, *told]) + " |")
    said = [f"- {name}: {', '.join(row.run)}" for name, row in rows().items() if row.run]
    more = ["", "What was run, as the rows of the matrix name it:", "", *said]
    return HEAD + "\n".join([*table, *more]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
