# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A checkpoint without its optimizer: which bytes of which shards, and the index of what is left.

A shard file is a row of entries, each a whole file of ``torch.save``; the index says at which
offset which entry lies. Entries of the model are taken as they are, byte for byte, in the order in
which they lie, and the index is written anew with their new places. What an export reads besides
(common state, ``_extra_state``, adapters) is of the model; what the optimizer, its scheduler's
state and the random generators keep is not. Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist_index

Range = tuple[int, int]

# megatron-core: optimizer/*.py (a chain of optimizers numbers them), training/checkpointing.py
_NOT_MODEL = re.compile(r"(chained_\d+\.)?optimizer(\.|/|$)|rng_state(\.|/|$)")


class SlimError(Exception):
    """An index cannot be slimmed."""


def is_of_model(name: str) -> bool:
    """Whether an entry is one that an export reads."""
    return _NOT_MODEL.match(name) is None


@dataclass(frozen=True)
class Slim:
    """What a checkpoint is without its optimizer.

    Attributes:
        ranges: Shard file -> (offset, length) of what stays, in the order of the new file.
        index: The new index, for ``.metadata``.
        bytes: Of the shards that are left.
        of: Bytes of all shards.
        left_out: How many entries stay behind.
    """

    ranges: dict[str, tuple[Range, ...]]
    index: bytes
    bytes: int
    of: int
    left_out: int


def slim(index: torch_dist_index.Inert) -> Slim:
    """Plan a checkpoint without optimizer and generators; changes ``index``.

    Args:
        index: What ``torch_dist_index.load_index`` returned.

    Raises:
        SlimError: There is nothing of a model in it.
        TorchDistError: An entry has no file name or no range.
    """
    whole = torch_dist_index.needed_files(index)
    entries = index.field("storage_data")
    kept = {key: info for key, info in entries.items() if is_of_model(_name(key))}
    if not kept:
        raise SlimError("the index names no tensor of a model")
    places: dict[str, dict[Range, list[Any]]] = {}
    for info in kept.values():
        place = (info.field("offset"), info.field("length"))
        places.setdefault(info.field("relative_path"), {}).setdefault(place, []).append(info)
    ranges: dict[str, tuple[Range, ...]] = {}
    for file, there in sorted(places.items()):
        ranges[file] = _joined(sorted(there))
        offset = 0
        for (_, length), infos in sorted(there.items()):
            for info in infos:
                info.replace("offset", offset)
            offset += length
    described = index.field("state_dict_metadata") or {}
    index.replace("storage_data", kept)
    index.replace(
        "state_dict_metadata",
        {name: what for name, what in described.items() if is_of_model(str(name))},
    )
    index.keep({"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"})
    planner = index.field("planner_data")
    if isinstance(planner, dict):
        index.replace("planner_data", {k: v for k, v in planner.items() if is_of_model(str(k))})
    total = sum(length for there in ranges.values() for _, length in there)
    return Slim(ranges, written(index), total, sum(whole.values()), len(entries) - len(kept))


def _name(key: Any) -> str:
    name = key.field("fqn") if isinstance(key, torch_dist_index.Inert) else key
    if not isinstance(name, str):
        raise SlimError(f"expected a MetadataIndex with a name in the index, found {key!r}")
    return name


def _joined(places: list[Range]) -> tuple[Range, ...]:
    """Ranges in order, those that touch as one.

    Raises:
        SlimError: Two overlap.
    """
    found: list[Range] = []
    for offset, length in places:
        end = sum(found[-1]) if found else 0
        if offset < end:
            raise SlimError(f"two entries of the index overlap at byte {offset}")
        if found and offset == end:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((offset, length))
    return tuple(found)


class _IndexPickler(pickle._Pickler):  # type: ignore[name-defined,misc]  # noqa: SLF001
    """Writes stand-ins as what they stand for, without importing it.

    The pickler in C looks each class up where it says it comes from; the one in Python can be
    told not to.
    """

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]  # noqa: SLF001

    def reducer_override(self, obj: Any) -> Any:
        """How an unpickler makes ``obj`` anew; classes are names."""
        if isinstance(obj, type):
            return NotImplemented
        if not isinstance(obj, (torch_dist_index.Inert, torch_dist_index.InertDict)):
            return NotImplemented
        return obj.reduced()

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write the name that a stand-in stands for."""
        origin = getattr(obj, "origin", None)
        if origin is None:
            super().save_global(obj, name)
            return
        for word in origin:
            self.save(word)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    def save_type(self, obj: Any) -> None:
        """As `save_global`."""
        if hasattr(obj, "origin"):
            self.save_global(obj)
            return
        super().save_type(obj)

    dispatch[type] = save_type


def written(index: torch_dist_index.Inert) -> bytes:
    """The bytes of an index file; what is read from them is what ``index`` stands for."""
    stream = io.BytesIO()
    _IndexPickler(stream, protocol=4).dump(index)
    return stream.getvalue()
