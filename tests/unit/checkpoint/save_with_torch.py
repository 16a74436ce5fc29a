"""Save checkpoints with torch: ``save_with_torch.py FOLDER RANK WORLD``.

All ranks save ``FOLDER/shared`` together. Rank 0 also saves ``FOLDER/alone`` without a process
group, and writes what torch itself reads from the shared index to ``FOLDER/read_by_torch.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import checkpoint


def state_of(rank: int) -> dict[str, Any]:
    """Return a few tensors and an object of one rank's own."""
    return {
        f"decoder.layers.{rank}.weight": torch.full((16, 8), float(rank)),
        f"decoder.layers.{rank}.bias": torch.zeros(8, dtype=torch.bfloat16),
        f"optimizer.{rank}.step": torch.tensor(7, dtype=torch.int64),
        f"extra_state.{rank}": {"rng": [rank, 2, 3]},
    }


def save(folder: Path, rank: int, *, alone: bool) -> None:
    """Save one checkpoint, one file a tensor."""
    writer = checkpoint.FileSystemWriter(folder, single_file_per_rank=False)
    checkpoint.save(state_of(rank), storage_writer=writer, no_dist=alone)


def read_by_torch(folder: Path) -> dict[str, Any]:
    """Return the entry names and the last byte of each shard file, as torch reads them."""
    metadata = checkpoint.FileSystemReader(folder).read_metadata()
    ends: dict[str, int] = {}
    for info in metadata.storage_data.values():
        ends[info.relative_path] = max(ends.get(info.relative_path, 0), info.offset + info.length)
    return {"names": sorted(metadata.state_dict_metadata), "ends": ends}


def main(folder: Path, rank: int, world: int) -> None:
    """Save as one of ``world`` ranks."""
    store = folder / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    save(folder / "shared", rank, alone=False)
    dist.destroy_process_group()
    if rank == 0:
        save(folder / "alone", rank, alone=True)
        (folder / "read_by_torch.json").write_text(json.dumps(read_by_torch(folder / "shared")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
