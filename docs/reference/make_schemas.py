# ruff: noqa: INP001 -- a script beside the files that it writes
"""Write the JSON Schemas of the fleet file and of the run file beside this script.

``python docs/reference/make_schemas.py`` after a change of ``pyswiftops/specs/``;
``tests/unit/test_docs.py`` fails until that is done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import KEY, RunSpec

HERE = Path(__file__).resolve().parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def fleet_schema() -> dict[str, Any]:
    """The fleet file's schema."""
    return {"$schema": DIALECT, **Fleet.model_json_schema()}


def run_schema() -> dict[str, Any]:
    """The run file's schema: one key, with the run below it."""
    spec = RunSpec.model_json_schema()
    models = spec.pop("$defs")
    return {
        "$schema": DIALECT,
        "title": "RunFile",
        "description": "A run file: one top-level key, so that Ansible takes it with -e @run.yml.",
        "type": "object",
        "properties": {KEY: {"$ref": "#/$defs/RunSpec"}},
        "required": [KEY],
        "additionalProperties": False,
        "$defs": {**models, "RunSpec": spec},
    }


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
