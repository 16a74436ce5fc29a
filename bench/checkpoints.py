"""Checkpoints of any size as Megatron lays them out on nodes: shards by rank, the index on rank 0.

Entries are what ``torch.save`` writes and the index is of torch's own classes, so that
``torch.distributed.checkpoint`` loads them; only the numbers are random. Of 7 bytes 1 is weights
and 6 are the optimizer's, as in mixed precision (2 and 12 bytes a parameter).
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

OPTIMIZER_TIMES = 6
FILES = 2  # of each rank
MIB = 1024 * 1024


@dataclass
class Made:
    """A checkpoint over nodes.

    Attributes:
        folders: The checkpoint's folder on each node, in rank order.
        iter_dir: Name of the folder of shards in it.
        bytes: Of all shards.
        weights: Name -> values of each weight.
    """

    folders: list[Path]
    iter_dir: str
    bytes: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def shard(self, rank: int, number: int = 0) -> Path:
        """A shard file."""
        return self.folders[rank] / self.iter_dir / f"__{rank}_{number}.distcp"

    @property
    def index(self) -> Path:
        """The index."""
        return self.folders[0] / self.iter_dir / ".metadata"


def make(
    folders: Sequence[Path], mebibytes: float, iteration: int = 100, entry: int = 4 * MIB
) -> Made:
    """Write a checkpoint, a rank a node.

    Args:
        folders: Where each node keeps its checkpoints.
        mebibytes: Of each rank's shards.
        iteration: The step.
        entry: Bytes of a weight; the optimizer's entries are six times as large.
    """
    name, iter_dir = f"checkpoint-{iteration}", f"iter_{iteration:07d}"
    made = Made([folder / name for folder in folders], iter_dir)
    generator = torch.Generator().manual_seed(iteration)
    pairs = max(1, int(mebibytes * MIB / FILES / (entry * (1 + OPTIMIZER_TIMES))))
    tensors: dict[str, TensorStorageMetadata] = {}
    storage: dict[MetadataIndex, _StorageInfo] = {}
    for rank in range(len(folders)):
        (made.folders[rank] / iter_dir).mkdir(parents=True)
        for number in range(FILES):
            with made.shard(rank, number).open("wb") as file:
                for pair in range(pairs):
                    weight = f"decoder.layers.{rank}.{number}.{pair}.weight"
                    for key, times in (
                        (weight, 1),
                        (f"optimizer.state.exp_avg.{weight}", OPTIMIZER_TIMES),
                    ):
                        values = torch.rand(entry // 4 * times, generator=generator)
                        stream = io.BytesIO()
                        torch.save(values, stream)
                        info = _StorageInfo(
                            made.shard(rank, number).name, file.tell(), stream.tell()
                        )
                        file.write(stream.getbuffer())
                        storage[MetadataIndex(key, torch.Size([0]))] = info
                        tensors[key] = _described(values)
                        if times == 1:
                            made.weights[key] = values
                made.bytes += file.tell()
    made.index.write_bytes(pickle.dumps(Metadata(tensors, storage_data=storage)))
    beside = made.index.with_name("metadata.json")
    beside.write_text(json.dumps({"sharded_backend": "torch_dist"}), encoding="utf-8")
    (made.folders[0] / "args.json").write_text("{}", encoding="utf-8")
    tracker = made.folders[0] / "latest_checkpointed_iteration.txt"
    tracker.write_text(str(iteration), encoding="utf-8")
    return made


def _described(values: torch.Tensor) -> TensorStorageMetadata:
    chunk = ChunkStorageMetadata(torch.Size([0]), values.size())
    return TensorStorageMetadata(
        TensorProperties.create_from_tensor(values), values.size(), [chunk]
    )
