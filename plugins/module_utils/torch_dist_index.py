# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Read the index of a torch_dist checkpoint without torch and without running what is in it.

``.metadata`` is a pickle made on another node. It is read by an unpickler that knows the names
real checkpoints hold, gives each an inert stand-in, and refuses every other name.
Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import copyreg
import pickle
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

INDEX = ".metadata"

_DCP = "torch.distributed.checkpoint"
_MEGATRON = "megatron.core.dist_checkpointing.strategies.torch"
_ALLOWED: dict[str, frozenset[str]] = {
    f"{_DCP}.metadata": frozenset(
        {
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        }
    ),
    f"{_DCP}.filesystem": frozenset({"_StorageInfo"}),
    # Megatron keeps the save plans in the index, to skip planning at the next save.
    f"{_DCP}.planner": frozenset(
        {
            "BytesIOWriteData",
            "SavePlan",
            "TensorWriteData",
            "WriteItem",
            "WriteItemType",
        }
    ),
    # torch up to 2.2 kept the tensor properties here.
    "torch.distributed._shard.sharded_tensor.metadata": frozenset(
        {
            "MEM_FORMAT_ENCODING",
            "TensorProperties",
        }
    ),
    _MEGATRON: frozenset({"MCoreMetadata", "MCoreSavePlan"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "collections": frozenset({"OrderedDict"}),
    "datetime": frozenset({"timedelta"}),
    "pathlib": frozenset({"Path", "PosixPath", "PurePosixPath"}),
    "pathlib._local": frozenset({"Path", "PosixPath", "PurePosixPath"}),
    # Python 3.11.0 to 3.11.3 pickle an enum's member as getattr(class, name).
    "builtins": frozenset({"getattr"}),
}
_TORCH = frozenset({"Size", "device", "layout", "memory_format", "strided", "sparse_coo"})
_DTYPE = re.compile(r"b?float(4|8|16|32|64)(_e\d+m\d+\w*)?|u?int\d+|qu?int\d\w*|complex\d+|bool")
_LEGACY_DTYPES = frozenset({"half", "float", "double", "short", "int", "long"})

_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class TorchDistError(Exception):
    """An index cannot be read, or holds something that no checkpoint holds."""


class RefusedGlobalError(TorchDistError):
    """An index names a class or function that is not on the allow-list."""


class Inert:
    """Stands for any object of an index: keeps what it was given and does nothing.

    Every stand-in is a subclass, made per name. ``__setstate__`` also keeps a crafted pickle
    from setting attributes of the stand-in classes themselves.
    """

    _args: tuple[Any, ...]
    _state: Any
    origin: tuple[str, str]
    """Module and name of what this stands for."""

    def __new__(cls, *args: Any, **_kwargs: Any) -> Inert:  # noqa: PYI034 - subclasses are made at run time
        """Keep positional arguments; keyword arguments occur in no index."""
        made = super().__new__(cls)
        made._args = args
        made._state = None
        return made

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def field(self, name: str) -> Any:
        """Return a field of a pickled dataclass, None where it has none."""
        return self._state.get(name) if isinstance(self._state, dict) else None

    @property
    def given(self) -> tuple[Any, ...]:
        """What it was called with: of ``torch.Size``, its numbers."""
        first = self._args[0] if self._args else ()
        return tuple(first) if isinstance(first, (tuple, list)) else self._args

    def replace(self, name: str, value: Any) -> None:
        """Give a field of a pickled dataclass another value, where it has the field."""
        if isinstance(self._state, dict) and name in self._state:
            self._state[name] = value

    def keep(self, names: Collection[str]) -> None:
        """Drop all other fields."""
        self._state = {name: value for name, value in self._state.items() if name in names}

    def reduced(self) -> tuple[Any, ...]:
        """How pickle writes what this stands for: a call where it was one, else an object."""
        if self._args:
            return (type(self), self._args, self._state)
        return (copyreg.__newobj__, (type(self),), self._state)  # type: ignore[attr-defined]


class InertDict(dict):  # type: ignore[type-arg]
    """Stands for OrderedDict: pickle fills it item by item."""

    def __setstate__(self, state: Any) -> None:
        """Ignore attributes."""

    def reduced(self) -> tuple[Any, ...]:
        """How pickle writes what this stands for."""
        return (type(self), (), None, None, iter(self.items()))


class _IndexUnpickler(pickle.Unpickler):
    """Knows the names of real checkpoints, imports nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> type:
        """Return the stand-in for a name on the allow-list."""
        if not _is_allowed(module, name):
            raise RefusedGlobalError(f"{module}.{name}")
        key = (module, name)
        if key not in self._classes:
            base = InertDict if key == ("collections", "OrderedDict") else Inert
            own = {"__module__": __name__, "origin": key}
            self._classes[key] = type(name, (base,), own)
        return self._classes[key]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise RefusedGlobalError(f"persistent id {pid!r}")


def _is_allowed(module: str, name: str) -> bool:
    if module == "torch":
        return name in _TORCH or name in _LEGACY_DTYPES or bool(_DTYPE.fullmatch(name))
    return name in _ALLOWED.get(module, ())


def load_index(path: Path) -> Inert:
    """Return the stand-in of the ``Metadata`` object in an index file.

    Args:
        path: The ``.metadata`` file.

    Raises:
        TorchDistError: It cannot be read or is no index.
        RefusedGlobalError: It names something that no checkpoint holds; nothing was run.
    """
    try:
        with path.open("rb") as stream:
            root = _IndexUnpickler(stream).load()
    except RefusedGlobalError as error:
        raise RefusedGlobalError(
            f"refused {path}: it names {error}, which no torch_dist checkpoint holds; nothing "
            "was run. The file is damaged or was tampered with: copy it again from the node that "
            "wrote it, and do not load it with torch"
        ) from None
    except OSError as error:
        raise TorchDistError(f"cannot read {path}: {error.strerror}") from error
    except _BROKEN as error:
        raise TorchDistError(
            f"expected the index of a torch_dist checkpoint in {path}, found bytes that are none "
            f"({type(error).__name__}: {error}). Copy it again from the node of rank 0"
        ) from error
    if type(root).__name__ not in {"Metadata", "MCoreMetadata"} or not isinstance(root, Inert):
        raise TorchDistError(f"expected a Metadata object in {path}, found {type(root).__name__}")
    return root


def needed_files(index: Inert, path: object = INDEX) -> dict[str, int]:
    """Return the shard files that an index refers to, and the bytes each must have at least.

    Args:
        index: What ``load_index`` returned.
        path: Where it came from, for messages.

    Raises:
        TorchDistError: An entry has no file name or no range.
    """
    entries = index.field("storage_data")
    if not isinstance(entries, dict) or not entries:
        raise TorchDistError(f"expected storage_data in {path}, found none: it indexes no shard")
    needed: dict[str, int] = {}
    for info in entries.values():
        if not isinstance(info, Inert):
            raise TorchDistError(f"expected a _StorageInfo in {path}, found {type(info).__name__}")
        name, offset, length = (info.field(key) for key in ("relative_path", "offset", "length"))
        plain = isinstance(name, str) and name and "/" not in name and name not in {".", ".."}
        numbers = all(type(number) is int and number >= 0 for number in (offset, length))
        if not plain or not numbers:
            raise TorchDistError(
                f"expected a shard file and a range in {path}, found {name!r} {offset!r} {length!r}"
            )
        needed[name] = max(needed.get(name, 0), offset + length)
    return dict(sorted(needed.items()))


def tensor_names(index: Inert) -> list[str]:
    """Return the names of the tensors and objects that an index describes, sorted."""
    entries = index.field("state_dict_metadata")
    return sorted(map(str, entries)) if isinstance(entries, dict) else []
