"""A user's document into a pydantic model, with errors a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.specs.plain import LINE, strange


class Model(BaseModel):
    """Base of every spec model: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        serialize_by_alias=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, no, on and off as true and false, and Python those as 1 and 0."""
        items = value if isinstance(value, list) else [value]
        if info.field_name is not None and any(isinstance(item, bool) for item in items):
            taken = set(_types_in(cls.model_fields[info.field_name].annotation))
            if taken & {int, float, str} and not taken & {bool, Any}:
                raise ValueError("a number or a text; YAML reads yes, no, on and off as booleans")
        return value


Spec = TypeVar("Spec", bound=Model)


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
    findings = list(strange(data, where))
    if findings:
        raise error(findings)
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
        return Finding("a known key", f"unknown key {key[:LINE]!r}", place, hint)
    if item["type"] == "missing":
        return Finding(f"key {location[-1]!r}", "nothing", place, f"add {location[-1]!r}")
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if message.startswith("no secrets"):
        return Finding(message, "a name of one; its value is not shown", place, "take it out")
    found = repr(item["input"])
    found = found if len(found) <= LINE else found[: LINE - 3] + "..."
    return Finding(message, found, place, _remedy(item))


def _remedy(item: Any) -> str:
    value, kind = item["input"], item["type"]
    if isinstance(value, bool | int | float) and kind == "string_type":
        return f"put it in quotes: '{value}'"
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return "write its keys below it, indented"
    if kind in {"list_type", "tuple_type"}:
        return "write a list: one '- item' a line, or [a, b]"
    return "correct the value"


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


def _types_in(annotation: Any) -> Iterator[Any]:
    """All types in an annotation such as ``int | list[int] | None``."""
    if annotation is Any or isinstance(annotation, type):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _types_in(argument)
