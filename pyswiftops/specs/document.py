"""Reading a user's YAML document into a pydantic model, with errors a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pyswiftops.errors import BadInputError, Finding


class Model(BaseModel):
    """Base of every spec model: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), serialize_by_alias=True
    )


Spec = TypeVar("Spec", bound=Model)


def read_yaml(path: Path, error: type[BadInputError], kind: str) -> dict[str, Any]:
    """Read a YAML mapping.

    Args:
        path: The file.
        error: The class to raise.
        kind: What the file is, for messages ("fleet file").

    Raises:
        BadInputError: as ``error``, when the file is missing, not YAML, or not a mapping.
    """
    mapping = f"a {kind}: a YAML mapping"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(
            Finding(mapping, "no such file", str(path), f"name an existing {kind}")
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(Finding(mapping, str(problem), str(path), "make it readable UTF-8")) from None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(problem, "problem", None) or str(problem)
        raise error(
            Finding(mapping, f"not YAML ({reason})", where, "mend the YAML at that line")
        ) from None
    if not isinstance(document, dict):
        found = "an empty file" if document is None else f"a {type(document).__name__}"
        raise error(Finding(mapping, found, str(path), f"see inventory/ for a working {kind}"))
    return document


def validate(
    model: type[Spec], data: Mapping[str, Any], where: str, error: type[BadInputError]
) -> Spec:
    """Validate ``data`` as ``model``; every problem becomes a :class:`Finding`.

    Args:
        model: The pydantic model.
        data: The parsed document.
        where: What to name as the place ("run.yml").
        error: The class to raise.
    """
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        raise error([_finding(model, item, where) for item in problem.errors()]) from None


def _finding(model: type[BaseModel], item: Any, where: str) -> Finding:
    location: Sequence[str | int] = item["loc"]
    place = f"{where}: {'.'.join(str(part) for part in location)}" if location else where
    if item["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        key = str(location[-1])
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"keys here: {', '.join(known)}"
        return Finding("a known key", f"unknown key {key!r}", place, hint)
    if item["type"] == "missing":
        return Finding(f"key {location[-1]!r}", "nothing", place, f"add {location[-1]!r}")
    message = item["msg"].removeprefix("Value error, ")
    found = repr(item["input"])
    found = found if len(found) <= 200 else found[:197] + "..."  # noqa: PLR2004 a line's worth
    return Finding(message, found, place, "correct the value")


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that a mapping at ``location`` below ``model`` may have."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = _model_in(field.annotation)
    fields = getattr(current, "model_fields", {})
    return sorted(field.alias or name for name, field in fields.items())


def _model_in(annotation: Any) -> Any:
    """The model class inside an annotation such as ``list[Node]`` or ``Ssh | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = _model_in(argument)
        if inner is not None:
            return inner
    return None
