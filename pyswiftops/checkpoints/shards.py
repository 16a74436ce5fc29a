"""Tensors of a Megatron checkpoint, read without Megatron and without mcore-bridge.

The index is read by the collection's allow-list unpickler; a chunk's bytes are what ``torch.save``
wrote, and are loaded with ``weights_only``. Runs on nodes, with their torch.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyswiftops.content import collections_path

if TYPE_CHECKING:
    from torch import Tensor


class Shards:
    """The tensors of an ``iter_`` folder.

    Args:
        folder: The folder with ``.metadata``.

    Raises:
        ValueError: the index cannot be read, or names what no checkpoint holds.
    """

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(collections_path()))
        from ansible_collections.pyswiftops.fleet.plugins.module_utils import (  # noqa: PLC0415
            torch_dist_index,
        )

        self._folder = folder
        try:
            index = torch_dist_index.load_index(folder / torch_dist_index.INDEX)
        except torch_dist_index.TorchDistError as problem:
            raise ValueError(str(problem)) from problem
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._chunks: dict[str, list[tuple[tuple[int, ...], tuple[int, ...], Any]]] = {}
        described = index.field("state_dict_metadata")
        chunks: dict[str, dict[tuple[int, ...], tuple[int, ...]]] = {}
        for key, info in index.field("storage_data").items():
            name = key.field("fqn")
            size = described[name].field("size") if name in described else None
            if size is None:
                continue  # bytes, not a tensor
            self._sizes[name] = _numbers(size)
            chunks.setdefault(
                name,
                {
                    _numbers(chunk.field("offsets")): _numbers(chunk.field("sizes"))
                    for chunk in described[name].field("chunks")
                },
            )
            offsets = key.field("offset")
            at = _numbers(offsets) if offsets is not None else (0,) * len(self._sizes[name])
            self._chunks.setdefault(name, []).append((at, chunks[name][at], info))

    @property
    def names(self) -> list[str]:
        """Names of all tensors, the optimizer's too."""
        return sorted(self._sizes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor; () where there is none of that name."""
        return self._sizes.get(name, ())

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """A tensor, put together of its chunks, or a part of it.

        Args:
            name: Its name.
            at: First indices, for instance the layer: only chunks that hold them are read.

        Raises:
            ValueError: the chunks do not cover it.
        """
        import torch  # noqa: PLC0415 the node's

        depth = len(at)
        whole: Tensor | None = None
        covered = 0
        for offsets, chunk in self._parts(name, at):
            if whole is None:
                whole = torch.empty(self._sizes[name][depth:], dtype=chunk.dtype)
            held = chunk[tuple(i - start for i, start in zip(at, offsets, strict=False))]
            start = offsets[depth:]
            place = tuple(slice(o, o + n) for o, n in zip(start, held.shape, strict=True))
            whole[place] = held
            covered += held.numel()
        if whole is None or covered < whole.numel():
            raise ValueError(f"the chunks of {name} do not cover it")
        return whole

    def _parts(self, name: str, at: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        import torch  # noqa: PLC0415

        for offsets, sizes, info in self._chunks[name]:
            inside = zip(at, offsets, sizes, strict=False)
            if not all(start <= i < start + size for i, start, size in inside):
                continue
            with (self._folder / info.field("relative_path")).open("rb") as file:
                file.seek(info.field("offset"))
                data = file.read(info.field("length"))
            yield offsets, torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _numbers(size: Any) -> tuple[int, ...]:
    """Of a stand-in for ``torch.Size``."""
    return tuple(int(number) for number in size.given)
