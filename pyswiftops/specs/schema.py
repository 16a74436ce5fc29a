"""JSON Schemas of the two files a user writes."""

from __future__ import annotations

from typing import Any

from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import KEY, RunSpec

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
