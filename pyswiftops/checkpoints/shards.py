"""Tensors of a torch_dist checkpoint, read from its shards without Megatron and its bridge.

Runs on nodes. The index is read through the allow-list of ``module_utils/torch_dist_index.py``, and
each range of a shard by ``torch.load`` with ``weights_only``: nothing in a file is run.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyswiftops.content import module_util

_NO_WEIGHTS = ("optimizer.", "rng_state", "rerun_state_machine_state", "common_state")
_TRACKER = "latest_checkpointed_iteration.txt"


class ShardError(ValueError):
    """A checkpoint's shards do not hold what its index says."""


@dataclass(frozen=True)
class _Chunk:
    """One box of a tensor, and the bytes it lies in."""

    offsets: tuple[int, ...]
    file: str
    start: int
    length: int


class Shards:
    """The model's tensors of one iteration, each read when it is asked for.

    Attributes:
        shapes: Name -> global shape; optimizer, random states and extra states are left out.
    """

    def __init__(self, checkpoint: Path) -> None:
        """Read the index.

        Args:
            checkpoint: A checkpoint folder with its tracker, or an ``iter_`` folder.

        Raises:
            TorchDistError: of ``module_utils/torch_dist_index.py``; the index cannot be read.
        """
        self._folder = iteration_folder(checkpoint)
        reader = module_util("torch_dist_index")
        index = reader.load_index(self._folder / reader.INDEX)
        reader.needed_files(index, self._folder)  # every entry is a plain file name and a range
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, entry in index.field("state_dict_metadata").items():
            size = entry.field("size")
            if size is not None and not name.startswith(_NO_WEIGHTS):
                self.shapes[name] = _numbers(size)
        self._chunks: dict[str, list[_Chunk]] = {name: [] for name in self.shapes}
        for key, info in index.field("storage_data").items():
            name, offsets = key.field("fqn"), key.field("offset")
            if name in self._chunks and offsets is not None:
                place = (info.field(field) for field in ("relative_path", "offset", "length"))
                self._chunks[name].append(_Chunk(_numbers(offsets), *place))

    def read(self, name: str, lead: Sequence[int] = ()) -> Any:
        """A tensor, or the part of it that the first indices in ``lead`` stand for.

        Raises:
            ShardError: chunks do not fill the tensor, or a shard cannot be read.
        """
        shape = self.shapes[name][len(lead) :]
        whole, filled = None, 0
        for chunk in self._chunks[name]:
            if any(offset > at for offset, at in zip(chunk.offsets, lead, strict=False)):
                continue
            tensor = self._load(chunk)
            at = [index - offset for index, offset in zip(lead, chunk.offsets, strict=False)]
            if tensor.dim() != len(self.shapes[name]) or any(
                index >= size for index, size in zip(at, tensor.shape, strict=False)
            ):
                continue
            part = tensor[tuple(at)] if at else tensor
            whole = part.new_empty(shape) if whole is None else whole
            begin = chunk.offsets[len(lead) :]
            box = tuple(slice(b, b + n) for b, n in zip(begin, part.shape, strict=True))
            if whole[box].shape != part.shape:
                raise ShardError(f"a chunk of {name} in {chunk.file} lies outside {shape}")
            whole[box] = part
            filled += part.numel()
        if whole is None or filled != math.prod(shape):
            raise ShardError(
                f"expected {math.prod(shape)} numbers of {name}{list(lead) or ''} in the shards of "
                f"{self._folder}, found {filled}: gather the checkpoint again"
            )
        return whole

    def _load(self, chunk: _Chunk) -> Any:
        import torch  # noqa: PLC0415 only nodes have it

        path = self._folder / chunk.file
        try:
            with path.open("rb") as stream:
                stream.seek(chunk.start)
                data = stream.read(chunk.length)
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True).detach()
        except Exception as error:  # torch raises what zip, pickle and the file system raise
            raise ShardError(f"cannot read {chunk.length} bytes of {path}: {error}") from error


def iteration_folder(checkpoint: Path) -> Path:
    """The folder of shards that a checkpoint's tracker names, or the folder itself."""
    tracker = checkpoint / _TRACKER
    if not tracker.is_file():
        return checkpoint
    word = tracker.read_text("utf-8").strip()
    return checkpoint / (f"iter_{int(word):07d}" if word.isdigit() else word)


def settings(checkpoint: Path) -> Mapping[str, Any]:
    """What ``args.json`` beside or above the shards tells; empty where there is none."""
    for folder in (checkpoint, checkpoint.parent):
        path = folder / "args.json"
        if path.is_file():
            found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
            return found
    return {}


def _numbers(size: Any) -> tuple[int, ...]:
    """The numbers of a pickled ``torch.Size``."""
    return tuple(int(number) for number in (size._args[0] if size._args else ()))  # noqa: SLF001 a stand-in keeps no other name for them
