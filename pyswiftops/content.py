"""Where the Ansible collection that belongs to this package lies.

A wheel carries it as ``ansible_collections/pyswiftops/fleet`` beside the package. A checkout
(editable installs) is the collection itself; Ansible then finds it through one symbolic link in
the user's cache, so that edits of roles take effect at once.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

from pyswiftops.errors import CollectionNotFoundError

_PACKAGE = Path(__file__).resolve().parent
_BESIDE = Path("ansible_collections", "pyswiftops", "fleet")
_MODULE_UTILS = "pyswiftops_module_utils"


def collection() -> Path:
    """The collection's folder (it holds ``galaxy.yml`` or ``MANIFEST.json``, and ``roles/``).

    Raises:
        CollectionNotFoundError: neither a checkout nor an installed collection is there.
    """
    checkout = _PACKAGE.parent
    if (checkout / "galaxy.yml").is_file() and (checkout / "roles").is_dir():
        return checkout
    installed = checkout / _BESIDE
    if (installed / "roles").is_dir():
        return installed
    raise CollectionNotFoundError(
        f"expected the collection pyswiftops.fleet in {installed}, found none: "
        "reinstall the package (pip install --force-reinstall --no-deps pyswiftops)"
    )


def collections_path() -> Path:
    """The folder to name in ``ANSIBLE_COLLECTIONS_PATH``, so that no stale copy is used."""
    home = collection()
    if home.parts[-3:] == _BESIDE.parts:
        return home.parents[2]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    tag = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    base = cache / "pyswiftops" / f"checkout-{tag}"
    link = base / _BESIDE
    if not link.is_symlink() or link.resolve() != home:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(home, target_is_directory=True)
    return base


def module_util(name: str) -> Any:
    """A file of the collection's ``module_utils``, which imports only its neighbours."""
    if _MODULE_UTILS not in sys.modules:
        package = types.ModuleType(_MODULE_UTILS)
        package.__path__ = [str(collection() / "plugins" / "module_utils")]
        sys.modules[_MODULE_UTILS] = package
    return importlib.import_module(f"{_MODULE_UTILS}.{name}")
