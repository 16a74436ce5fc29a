"""What torch really wrote is found, and known, by the scan of a node."""

from __future__ import annotations

import time
from pathlib import Path

from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import layout

from pyswiftops.checkpoints.merging import make_ledger


def test_a_checkpoint_that_torch_wrote_is_complete_and_loses_it_with_a_shard(
    checkpoint: Path,
) -> None:
    roots = {"node-1": {str(checkpoint.parent): "train"}}

    def only() -> tuple[bool, bool | None, tuple[str, ...]]:
        told = layout.scan([str(checkpoint.parent)], now_ns=time.time_ns() + 10**12)
        (found,) = make_ledger("r", ["node-1"], {"node-1": told}, roots).checkpoints
        return found.complete, found.has_optimizer, found.missing

    assert only() == (True, True, ())
    (checkpoint / "iter_0000010" / "__1_0.distcp").unlink()
    assert only() == (False, True, ("iter_0000010/__1_0.distcp",))
