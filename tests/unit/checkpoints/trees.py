"""Checkpoints on disk, in the layouts of the release lines; shards are sparse files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "checkpoint" / "data"
LORA_SHARDS = {
    "__0_0.distcp": 8582182,
    "__0_1.distcp": 8616082,
    "__1_0.distcp": 8582182,
    "__1_1.distcp": 8616018,
}
FULL_KEYS = (
    "decoder.layers.mlp.linear_fc1.weight",
    "decoder.layers.mlp.linear_fc1._extra_state/shard_0_2",
    "optimizer.distributed.dp_group_idx_0.per_bucket_numel/shard_0_1",
    "optimizer.distributed.dp_group_idx_0.gbuf_idx_0.dtype_(a, b).bucket_idx_0.exp_avg",
    "rng_state/shard_0.0_1.1",
)
TRACKER = "latest_checkpointed_iteration.txt"


def lora_index() -> bytes:
    """The index that ms-swift and megatron-core wrote (LoRA, pipeline parallel 2)."""
    return gzip.decompress((DATA / "lora_pp2.metadata.gz").read_bytes())


class Metadata:
    """Stands for torch's class."""


class StorageInfo:
    """Stands for torch's class."""


TORCH = {
    Metadata: ("torch.distributed.checkpoint.metadata", "Metadata"),
    StorageInfo: ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
}


class Pickler(pickle._Pickler):
    """Writes torch's names for the stand-ins, without torch."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj in TORCH:
            module, named = TORCH[obj]
            self.write(pickle.GLOBAL + f"{module}\n{named}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def index(shards: dict[str, int], keys: Iterable[str] = FULL_KEYS) -> bytes:
    """An index as torch writes it: the entries of a checkpoint, and which shards hold them."""
    root = Metadata()
    infos = {}
    for shard, size in shards.items():
        infos[shard] = StorageInfo()
        infos[shard].__dict__ = {"relative_path": shard, "offset": 0, "length": size}
    root.__dict__ = {"state_dict_metadata": dict.fromkeys(keys), "storage_data": infos}
    stream = io.BytesIO()
    Pickler(stream, 2).dump(root)
    return stream.getvalue()


def sparse(path: Path, size: int) -> None:
    """A file of so many bytes that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def write(path: Path, data: Any) -> None:
    """A file of bytes, text or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


ARGS = {
    "tuner_type": "full",
    "tensor_model_parallel_size": 1,
    "pipeline_model_parallel_size": 2,
    "world_size": 2,
    "swift_version": "4.6.0",
}


def megatron(
    base: Path,
    iteration: int,
    *,
    ranks: Iterable[int] = (0, 1),
    rank0: bool = True,
    lora: bool = False,
    common: bool = True,
    keys: Iterable[str] = FULL_KEYS,
    args: dict[str, Any] | None = None,
    shard_bytes: int = 4096,
) -> Path:
    """What a node of ``ranks`` holds of a Megatron checkpoint of two ranks; returns ``iter_``."""
    folder = base / f"iter_{iteration:07d}"
    shards = LORA_SHARDS if lora else {f"__{rank}_0.distcp": shard_bytes for rank in (0, 1)}
    for name, size in shards.items():
        if int(name[2]) in tuple(ranks):
            sparse(folder / name, size)
    if rank0:
        told = ARGS | ({"tuner_type": "lora"} if lora else {})
        write(base / "args.json", told if args is None else args)
        write(base / TRACKER, str(iteration))
        write(folder / ".metadata", lora_index() if lora else index(shards, keys))
        write(folder / "metadata.json", {"sharded_backend": "torch_dist"})
        if common:
            write(folder / "common.pt", b"PK")
    return folder


def safetensors(path: Path, count: int = 16, cut: int = 0) -> None:
    """A real safetensors file of one tensor of so many bytes, its end cut off."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}})
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(count)
    write(path, data[: len(data) - cut])


def transformers(folder: Path, *, adapter: bool = False) -> Path:
    """A Hugging Face model, or LoRA adapters."""
    if adapter:
        write(folder / "adapter_config.json", {"peft_type": "LORA"})
        safetensors(folder / "adapter_model.safetensors")
    else:
        write(folder / "config.json", {"model_type": "llama"})
        safetensors(folder / "model.safetensors")
    return folder


def plain_swift(folder: Path, *, adapter: bool = True) -> Path:
    """A checkpoint of ``swift sft``."""
    transformers(folder, adapter=adapter)
    write(folder / "trainer_state.json", {"global_step": 10, "best_model_checkpoint": None})
    write(folder / "args.json", {"tuner_type": "lora"})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"):
        write(folder / name, b"PK")
    return folder
