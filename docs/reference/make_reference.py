# ruff: noqa: INP001 -- a script beside the files that it writes
"""Make the reference pages that say what the code says, as the documentation site is built.

Run file and fleet file from their JSON Schemas, roles from their argument specs, modules from their
``DOCUMENTATION``, the SDK from its docstrings. Nothing of it is committed, so nothing can be stale.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

import pyswiftops

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HEAD = ("key", "type", "default", "meaning")
MARKUP = re.compile(r"\b[CMOVIBFP]\(([^)]*)\)")  # Ansible's, as in C(swift infer)


def cell(value: Any) -> str:
    """A value inside a table: one line, no border of its own."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def code(value: Any) -> str:
    """A value as code."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{cell(text).replace('&lt;', '<')}`" if text else '`""`'


def prose(value: Any) -> str:
    """One sentence or several, out of a string or a list, without Ansible's markup."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return MARKUP.sub(r"\1", text)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


# The two files, from their schemas.


def kind(schema: dict[str, Any]) -> str:
    """A property's type in words; other tables by link."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(code(item) for item in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(kind(item) for item in schema[word]))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}" if schema.get("items") else "list"
    named = {"object": "mapping", "string": "text", "null": "none", "boolean": "true or false"}
    found = str(schema.get("type", "any"))
    return named.get(found, found)


def bounds(schema: dict[str, Any]) -> str:
    """What the schema says of a value's limits."""
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
        "minLength": "characters: at least",
        "maxLength": "characters: at most",
        "minItems": "items: at least",
        "maxItems": "items: at most",
        "pattern": "matches",
    }
    parts = (schema, *schema.get("anyOf", ()))
    said = [f"{words[key]} {code(part[key])}" for part in parts for key in words if key in part]
    return f" ({', '.join(said)})" if said else ""


def default(name: str, owner: dict[str, Any]) -> str:
    """A property's default; where only the code can make it, nothing."""
    schema = owner["properties"][name]
    if name in owner.get("required", ()):
        return "required"
    if "default" not in schema:
        return "derived"
    return "none" if schema["default"] is None else code(schema["default"])


def schema_page(title: str, name: str, prose_page: str) -> str:
    """A page of tables, one for each mapping that the file may hold."""
    schema = json.loads((HERE / name).read_text(encoding="utf-8"))
    definitions = dict(schema.get("$defs", {}))
    if "$defs" not in schema or "$ref" not in json.dumps(
        schema.get("properties", {}).get("run", 0)
    ):
        definitions[str(schema["title"])] = schema
    text = (
        f"# {title}\n\nMade from [{name}](../{name}), which editors can check files against. "
        f"In words, with examples: [{prose_page}](../{prose_page}).\n"
    )
    for model, found in sorted(definitions.items()):
        # a mapping that may be written shorter, as text, is one of several
        item = next((part for part in found.get("anyOf", ()) if "properties" in part), found)
        text += f"\n## {model}\n\n"
        if item.get("description"):
            text += cell(item["description"]).replace("&lt;", "<") + "\n\n"
        if "enum" in item:
            text += "One of " + ", ".join(code(value) for value in item["enum"]) + ".\n"
        if item.get("properties"):
            rows = [
                (code(key), kind(value) + bounds(value), default(key, item), meaning(value))
                for key, value in item["properties"].items()
            ]
            text += table(HEAD, rows)
    return text


def meaning(schema: dict[str, Any]) -> str:
    """A property's description."""
    return cell(prose(schema.get("description", "")))


# Roles and modules.


def options(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Rows of a table of options; those of a mapping stand below it."""
    for name, item in found.items():
        type_ = str(item.get("type", "str"))
        if item.get("elements"):
            type_ += f" of {item['elements']}"
        if item.get("choices"):
            type_ += ": " + ", ".join(code(str(choice)) for choice in item["choices"])
        value = "required" if item.get("required") else "none"
        if "default" in item:
            value = code(item["default"])
        yield code(prefix + name), type_, value, cell(prose(item.get("description")))
        below = item.get("options") or item.get("suboptions") or {}
        yield from options(below, f"{prefix}{name}.")


def roles_page() -> str:
    """Every role's variables, from its argument specs."""
    text = "# Variables of the roles\n\nMade from each role's `meta/argument_specs.yml`, by which "
    text += "Ansible checks them before the role begins.\n"
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        role = path.parents[1].name
        for entry, spec in specs.items():
            text += f"\n## {role}" + ("" if entry == "main" else f", {entry}") + "\n\n"
            text += f"{cell(spec['short_description'])}. "
            text += f"[README](../../../roles/{role}/README.md)\n\n"
            text += cell(prose(spec.get("description"))) + "\n\n"
            rows = list(options(spec.get("options") or {}))
            text += table(HEAD, rows) if rows else "It takes no variables.\n"
    return text


def documentation(path: Path) -> dict[str, str]:
    """The blocks of documentation of a module or plugin, unread."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.targets[0].id: str(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def modules_page() -> str:
    """Every module's options, examples and answer."""
    text = "# Options of the modules\n\nMade from the modules' own documentation, which "
    text += "`ansible-doc pyswiftops.fleet.MODULE` prints too.\n"
    paths = [*ROOT.glob("plugins/modules/*.py"), *ROOT.glob("plugins/inventory/*.py")]
    for path in sorted(paths):
        blocks = documentation(path)
        if "DOCUMENTATION" not in blocks:
            continue
        found = yaml.safe_load(blocks["DOCUMENTATION"])
        text += f"\n## {path.stem}\n\n{cell(prose(found['short_description']))}.\n\n"
        text += "".join(f"- {cell(prose(line))}\n" for line in as_list(found.get("description")))
        text += "\n" + table(HEAD, list(options(found.get("options") or {})))
        if blocks.get("EXAMPLES"):
            text += f"\n```yaml\n{blocks['EXAMPLES'].strip()}\n```\n"
        answer = yaml.safe_load(blocks.get("RETURN", "")) or {}
        if answer:
            rows = [
                (code(key), cell(item.get("type", "")), cell(prose(item.get("description"))))
                for key, item in answer.items()
            ]
            text += "\n" + table(("answer", "type", "meaning"), rows)
    return text


def as_list(value: Any) -> list[Any]:
    """One or several as several."""
    return value if isinstance(value, list) else [value]


# The SDK.


def sdk_page() -> str:
    """The public names, each from its docstring."""
    text = "# The SDK\n\nMade from the docstrings of `pyswiftops.__all__`. Worked examples: "
    text += "[The SDK by example](../../how-to/sdk.md).\n"
    for name in sorted(pyswiftops.__all__, key=lambda name: (name != "Client", name)):
        item = getattr(pyswiftops, name)
        assert inspect.isclass(item), name  # noqa: S101 -- else it needs another directive
        members = "" if issubclass(item, Exception) else "   :members:\n"
        text += f"\n## {name}\n\n```{{eval-rst}}\n.. autoclass:: {item.__module__}.{name}\n"
        text += f"{members}   :show-inheritance:\n```\n"
    return text


PAGES: dict[str, Callable[[], str]] = {
    "fleet-schema.md": lambda: schema_page(
        "Keys of the fleet file", "fleet.schema.json", "fleet.md"
    ),
    "run-schema.md": lambda: schema_page("Keys of the run file", "run.schema.json", "run.md"),
    "role-variables.md": roles_page,
    "module-options.md": modules_page,
    "sdk.md": sdk_page,
}


def write(folder: Path) -> None:
    """Write all pages; one that says what it said before is left alone."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in PAGES:
            path.unlink()
    for name, page in PAGES.items():
        path, text = folder / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(HERE / "generated")
