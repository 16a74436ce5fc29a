# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Records at a process's exit which packages it really imported, and from where.

The module `job` writes this file as `sitecustomize.py` into a job's folder and puts that
folder on PYTHONPATH, so that every Python process of the job runs it first. It then runs
the sitecustomize that it hides. A process leaves `<folder>/<pid>.json`, where the
environment variable SWIFTOPS_IMPORTS names the folder; SWIFTOPS_RECORD_IMPORTS=0 switches
it off. Processes that are killed leave nothing.

It must never break a job: whatever goes wrong in it is nobody's business. Standard
library only, Python 3.9 or newer; heavier imports wait for the exit.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

FOLDER = "SWIFTOPS_IMPORTS"
SWITCH = "SWIFTOPS_RECORD_IMPORTS"
MOST_FILES = 1024
TELLING = frozenset({"torch", "swift", "transformers", "megatron", "vllm", "sglang"})
"""A process that imported none of these is no rank and no server, and is not recorded."""

DISTRIBUTIONS = {
    "swift": "ms-swift",
    "mcore_bridge": "mcore-bridge",
    "megatron.core": "megatron-core",
    "google.protobuf": "protobuf",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "dateutil": "python-dateutil",
    "attr": "attrs",
    "flash_attn": "flash-attn",
}
"""Where a module's distribution has another name; `megatron` and `google` are no packages."""

_STATE = "_swiftops_import_hook"


def record(folder: str, pid: int) -> None:
    """Write what this process imported; nothing in a fork of it."""
    try:
        if os.getpid() != pid or not TELLING & sys.modules.keys() or _is_helper():
            return
        _write(folder, pid, found())
    except Exception:  # noqa: BLE001, S110 (a record is never worth a job)
        pass


def found() -> dict[str, Any]:
    """Return the packages that are imported now: distribution to version and folder."""
    packages = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("_") or ("." in name and name not in DISTRIBUTIONS):
            continue
        entry = _package(name, module)
        if entry is not None:
            packages[DISTRIBUTIONS.get(name, name)] = entry
    rank = os.environ.get("RANK", "")
    return {
        "argv": sys.argv[:1],
        "rank": int(rank) if rank.isdigit() else None,
        "python": sys.version.split()[0],
        "packages": packages,
        **_torch(),
    }


def _package(name: str, module: Any) -> dict[str, str] | None:
    """Return a third-party package's version and folder; None for what is none."""
    fields = getattr(module, "__dict__", {})
    folder = _folder(name, fields)
    if not folder or name in sys.builtin_module_names:
        return None
    if folder.startswith(_STDLIB) and not folder.startswith(_SITE):
        return None
    if name == "distutils" or folder.endswith("_vendor"):  # carried by setuptools
        return None
    import re  # noqa: PLC0415 (only at exit)
    from importlib import metadata  # noqa: PLC0415

    own = fields.get("__version__")
    own = own if isinstance(own, str) else ""
    try:
        version = str(metadata.version(DISTRIBUTIONS.get(name, name)))
    except Exception:  # noqa: BLE001 (no such distribution, or a broken one)
        version = own
    if not version:
        return None
    entry = {"version": version, "folder": folder}
    if own and re.split(r"\+|\.post", own)[0] != re.split(r"\+|\.post", version)[0]:
        entry["module_version"] = own  # the files are not those that were installed
    return entry


def _folder(name: str, fields: dict[str, Any]) -> str:
    """Return the folder that a module is imported from; of a stand-in, who made it."""
    file = fields.get("__file__")
    if not isinstance(file, str):
        loader = type(fields.get("__loader__"))
        return f"{loader.__module__}.{loader.__name__}" if "__version__" in fields else ""
    folder = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 (pathlib costs time)
    if os.path.basename(file).startswith("__init__."):  # noqa: PTH119
        for _ in range(1 + name.count(".")):
            folder = os.path.dirname(folder)  # noqa: PTH120
    return folder


def _torch() -> dict[str, str]:
    torch = sys.modules.get("torch")
    told: dict[str, str] = {}
    try:
        cuda = torch.version.cuda  # type: ignore[union-attr]
        if cuda:
            told["cuda"] = str(cuda)
            told["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001, S110 (no torch, or one without CUDA)
        pass
    return told


def _is_helper() -> bool:
    """Tell whether multiprocessing started this process; its parent speaks for it."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def _write(folder: str, pid: int, told: dict[str, Any]) -> None:
    import json  # noqa: PLC0415 (only at exit)

    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    if len(os.listdir(folder)) >= MOST_FILES:  # noqa: PTH208
        return
    path = os.path.join(folder, f"{pid}.json")  # noqa: PTH118
    with open(f"{path}.part", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(told, file)
    os.replace(f"{path}.part", path)  # noqa: PTH105


def install() -> None:
    """Record at exit, then do what the hidden sitecustomize would have done."""
    state = vars(sys).setdefault(_STATE, set())
    try:
        folder = os.environ.get(FOLDER)
        if folder and os.environ.get(SWITCH) != "0" and not state:
            atexit.register(record, folder, os.getpid())
    except Exception:  # noqa: BLE001, S110 (as above)
        pass
    _run_hidden(state)


def _run_hidden(ran: set[str]) -> None:
    """Run the next sitecustomize of sys.path that has not run; others may chain to us."""
    from importlib.machinery import PathFinder  # noqa: PLC0415 (loaded at start-up anyway)
    from importlib.util import module_from_spec  # noqa: PLC0415

    here = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120
    ran.add(here)
    places = [os.path.realpath(entry or ".") for entry in sys.path]
    start = places.index(here) + 1 if here in places else 0
    for entry, place in zip(sys.path[start:], places[start:]):  # noqa: B905 (Python 3.9)
        spec = None if place in ran else PathFinder.find_spec("sitecustomize", [entry])
        if spec is not None and spec.loader is not None:
            ran.add(place)
            spec.loader.exec_module(module_from_spec(spec))
            return


_STDLIB = os.path.dirname(os.path.abspath(os.__file__))  # noqa: PTH100, PTH120
_SITE = (os.path.join(_STDLIB, "site-packages"), os.path.join(_STDLIB, "dist-packages"))  # noqa: PTH118

if __name__ == "sitecustomize":
    install()
