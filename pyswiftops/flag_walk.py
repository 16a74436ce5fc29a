"""Read argument dataclasses out of packages' source, without importing anything.

Modules are parsed; names are followed through imports into the packages that are given, wheels or
folders, and fields are put together in the order in which Python would inherit them. Stands alone,
for Python 3.9 and later: nodes run it as a script, ``flag_walk.py CLASSES swift transformers``,
which prints verb -> flag -> ``type = default`` as a line of JSON.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Fields = dict[str, str]  # field -> "type = default", or only "type" where the field has no default


class WalkError(Exception):
    """A class cannot be found in the packages."""


@dataclass
class Packages:
    """Some packages whose modules import each other.

    Attributes:
        paths: Wheels, and folders of packages as they are installed.
    """

    paths: Sequence[Path]
    _parsed: dict[str, tuple[list[ast.ClassDef], list[ast.ImportFrom]]] = field(
        default_factory=dict
    )
    _types: dict[tuple[str, str], type] = field(default_factory=dict)
    _nodes: dict[type, ast.ClassDef] = field(default_factory=dict)

    @cached_property
    def _files(self) -> dict[str, tuple[zipfile.ZipFile | None, str]]:
        found: dict[str, tuple[zipfile.ZipFile | None, str]] = {}
        for path in self.paths:
            if path.is_dir():
                for file in path.rglob("*.py"):
                    found[_module_of(str(file.relative_to(path.parent)))] = (None, str(file))
                continue
            archive = zipfile.ZipFile(path)
            for name in archive.namelist():
                if name.endswith(".py"):
                    found[_module_of(name)] = (archive, name)
        return found

    def where(self, name: str, inside: str) -> str:
        """The one module below ``inside`` whose text defines a class.

        Raises:
            WalkError: there is none, or there are several.
        """
        found = [
            module
            for module in self._files
            if module.startswith(f"{inside}.")
            and "argument" in module
            and any(node.name == name for node in self._classes(module))
        ]
        if len(found) != 1:
            raise WalkError(f"{name} is in {found or 'no module'} of {inside}")
        return found[0]

    def fields(self, module: str, name: str) -> Fields:
        """The fields of a dataclass that its ``__init__`` takes.

        Raises:
            WalkError: the class, or one that it inherits from, is not there.
        """
        found: Fields = {}
        for each in reversed(self._type(module, name).__mro__):
            node = self._nodes.get(each)
            if node is not None and _is_dataclass(node):
                found.update(_own_fields(node))
        return {key: text for key, text in found.items() if text}

    def _type(self, module: str, name: str) -> type:
        """An empty class that inherits as the one in the wheel does: Python finds the order."""
        home, node = self._find(module, name, ())
        if (home, node.name) not in self._types:
            bases = []
            for base in node.bases:
                text = ast.unparse(base)
                if text.split("[")[0] not in {"Generic", "Protocol", "ABC", "object", "dict"}:
                    bases.append(self._type(home, text))
            made = type(node.name, tuple(bases), {})
            self._types[home, node.name], self._nodes[made] = made, node
        return self._types[home, node.name]

    def _find(
        self, module: str, name: str, seen: tuple[tuple[str, str], ...]
    ) -> tuple[str, ast.ClassDef]:
        if (module, name) in seen or module not in self._files:
            raise WalkError(f"{name} of {module}")
        seen = (*seen, (module, name))
        for node in self._classes(module):
            if node.name == name:
                return module, node
        for source, original in self._imports(module, name):
            try:
                return self._find(source, original, seen)
            except WalkError:
                continue
        if module == "transformers":  # its names are loaded lazily
            for each in ("transformers.training_args_seq2seq", "transformers.training_args"):
                if any(node.name == name for node in self._classes(each)):
                    return self._find(each, name, seen)
        raise WalkError(f"{name} of {module}")

    def _module(self, module: str) -> tuple[list[ast.ClassDef], list[ast.ImportFrom]]:
        """The classes and imports of a module, wherever in it they stand."""
        if module not in self._parsed:
            archive, name = self._files[module]
            text = archive.read(name) if archive else Path(name).read_bytes()
            nodes = list(ast.walk(ast.parse(text)))
            self._parsed[module] = (
                [node for node in nodes if isinstance(node, ast.ClassDef)],
                [node for node in nodes if isinstance(node, ast.ImportFrom)],
            )
        return self._parsed[module]

    def _classes(self, module: str) -> list[ast.ClassDef]:
        return self._module(module)[0]

    def _imports(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """Where a name of a module may come from."""
        package = self._files[module][1].endswith("__init__.py")
        parts = module.split(".")
        for node in self._module(module)[1]:
            up = node.level - 1 if package else node.level
            base = ".".join(parts[: len(parts) - up]) if node.level else ""
            source = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    yield source, alias.name
                elif alias.name == "*":
                    yield source, name


def _module_of(name: str) -> str:
    return name[: -len(".py")].replace("/", ".").removesuffix(".__init__")


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def _own_fields(node: ast.ClassDef) -> Fields:
    """What a class says itself; "" for what its ``__init__`` does not take."""
    found = {}
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            kind = ast.unparse(line.annotation)
            if "ClassVar" not in kind:
                found[line.target.id] = _described(kind, line.value)
    return found


def _described(kind: str, value: ast.expr | None) -> str:
    if value is None:
        return kind
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field"):
        given = {each.arg: each.value for each in value.keywords}
        init = given.get("init")
        if isinstance(init, ast.Constant) and init.value is False:
            return ""
        if "default" in given:
            return f"{kind} = {ast.unparse(given['default'])}"
        if "default_factory" in given:
            made = given["default_factory"]
            body = made.body if isinstance(made, ast.Lambda) else ast.Call(made, [], [])
            return f"{kind} = {ast.unparse(body)}"
        return kind
    return f"{kind} = {ast.unparse(value)}"


def walk(classes: dict[str, str], paths: Sequence[Path]) -> dict[str, Fields]:
    """Verb -> flag -> ``type = default``.

    Args:
        classes: Verb -> the class that holds its flags; a verb whose class is not there is
            left out.
        paths: The packages; the first is ms-swift's.

    Raises:
        WalkError: a class inherits from one that is not there.
    """
    packages = Packages(paths)
    found = {}
    for verb, name in classes.items():
        try:
            module = packages.where(name, "swift")
        except WalkError:
            continue
        found[verb] = packages.fields(module, name)
    return found


def installed(name: str) -> Path:
    """The folder that an import of a package would take.

    Raises:
        WalkError: there is none.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise WalkError(f"no package {name}")
    return Path(next(iter(spec.submodule_search_locations)))


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(walk(json.loads(sys.argv[1]), list(map(installed, sys.argv[2:])))) + "\n"
    )
