"""Arithmetic of a shell on whole numbers, as launch scripts divide batches by GPUs with it."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"\$?\{?([A-Za-z_]\w*)\}?")
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda one, other: int(one / other),  # towards zero, as a shell does
    ast.Mod: lambda one, other: one - other * int(one / other),
}
LONGEST = 200


def whole(text: str, variables: Mapping[str, list[str]]) -> int | None:
    """The value of ``$(expr ...)`` or ``$((...))``; None for all that is anything else.

    Args:
        text: As it stands in the script. It is read, and never executed.
        variables: Variable -> its values.
    """
    if text.startswith("$((") and text.endswith("))"):
        inside = text[3:-2]
    elif text.startswith("$(expr ") and text.endswith(")"):
        inside = text[len("$(expr ") : -1].replace("\\*", "*")
    else:
        return None
    known = {name: " ".join(values) for name, values in variables.items()}
    filled = _NAME.sub(lambda found: known.get(found[1], "?"), inside)
    if len(filled) > LONGEST or not re.fullmatch(r"[\d\s+*/%()-]+", filled) or "**" in filled:
        return None
    try:
        return _value(ast.parse(filled.strip().replace("/", "//"), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    raise ValueError("not of whole numbers")
