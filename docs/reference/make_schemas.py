# ruff: noqa: INP001 -- a script beside the files that it writes
"""Write the JSON Schemas of the fleet file and of the run file beside this script.

``python docs/reference/make_schemas.py`` after a change of ``pyswiftops/specs/``;
``tests/unit/test_docs.py`` fails until that is done.
"""

from __future__ import annotations

import json
from pathlib import Path

from pyswiftops.specs.schema import fleet_schema, run_schema

HERE = Path(__file__).resolve().parent
SCHEMAS = {"fleet.schema.json": fleet_schema, "run.schema.json": run_schema}


def text(name: str) -> str:
    """What the file ``name`` must hold."""
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write both files."""
    for name in SCHEMAS:
        (HERE / name).write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
