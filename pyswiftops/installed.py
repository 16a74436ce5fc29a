"""What a node's Python really has, against the matrix row of its release line.

The versions are those of the installed distributions; the files are those that an import would
take, which something earlier on the path may shadow. Nothing is imported, so that a look takes a
second and not fifteen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from pyswiftops.errors import Finding
from pyswiftops.matrix import Row

MODULES = {
    "ms-swift": "swift",
    "mcore-bridge": "mcore_bridge",
    "megatron-core": "megatron.core",
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "trl": "trl",
    "msgspec": "msgspec",
    "pyarrow": "pyarrow",
    "transformer_engine": "transformer_engine",
    "flash-attn": "flash_attn",
    "vllm": "vllm",
    "sglang": "sglang",
}
NEEDED = frozenset({"ms-swift", "mcore-bridge", "torch", "transformers", "peft", "trl"})
# Python 3.9 and later; prints one line of JSON.
PROBE = """
import importlib.metadata as m, importlib.util as u, json, sys
found = {}
for name, module in json.loads(sys.argv[1]).items():
    try:
        spec = u.find_spec(module)
    except Exception:
        spec = None
    where = (spec.origin or list(spec.submodule_search_locations)[0]) if spec else None
    try:
        dist = m.distribution(name)
    except m.PackageNotFoundError:
        dist = None
    root = str(dist.locate_file("")) if dist else None
    editable = '"editable": true' in (dist.read_text("direct_url.json") or "") if dist else False
    found[name] = {"version": dist.version if dist else None, "root": root, "module": where,
                   "editable": editable}
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


def probe(row: Row) -> list[str]:
    """The command that looks; its last line of output is for :func:`conflicts`."""
    asked = {name: MODULES[name] for name in row.packages if name in MODULES}
    return ["python", "-c", PROBE, json.dumps(asked)]


def read(output: str) -> dict[str, Any]:
    """What :func:`probe` printed.

    Raises:
        ValueError: it is no answer of it.
    """
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1] if output.strip() else "")
    return found


def conflicts(row: Row, node: str, facts: Mapping[str, Any]) -> list[Finding]:
    """Where a node has something else than the row says.

    Args:
        row: The release line's row.
        node: The node's name.
        facts: From :func:`read`.
    """
    found = []
    python = Version(facts["python"].rstrip("+"))
    if python not in SpecifierSet(row.python.range):
        found.append(_finding(row, node, "Python", row.python.range, str(python)))
    for name, package in row.packages.items():
        has = facts["packages"].get(name)
        if has is None:
            continue
        version = has["version"]
        if version is None and has["module"] is None:
            if name in NEEDED or (name == "megatron-core" and row.megatron_source.kind == "pip"):
                found.append(_finding(row, node, name, package.range, "not installed"))
        elif version is not None and not _fits(version, package.range):
            found.append(_finding(row, node, name, package.range, version))
        elif _shadowed(has):
            told = f"imported from {has['module']}, which shadows {version} in {has['root']}"
            found.append(_finding(row, node, name, package.range, told))
    return found


def _fits(version: str, wanted: str) -> bool:
    try:
        return Version(version) in SpecifierSet(wanted, prereleases=True)
    except InvalidVersion:
        return False


def _shadowed(has: Mapping[str, Any]) -> bool:
    """Whether an import takes another file than the distribution's."""
    if has["version"] is None or has["module"] is None or has["editable"]:
        return False
    return not str(has["module"]).startswith(str(has["root"]).rstrip("/") + "/")


def _finding(row: Row, node: str, name: str, wanted: str, found: str) -> Finding:
    remedy = "look at PYTHONPATH of the node" if "shadows" in found else "install what fits"
    what = f"{name} {wanted}".strip()
    return Finding(f"{what} for ms-swift {row.line}", found, f"{node}: {name}", remedy)
