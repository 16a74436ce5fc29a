"""An export that cannot fit is told before it starts, with what would help."""

from __future__ import annotations

import pytest

from pyswiftops.forecast import export_memory, recast

GB = 10**9


@pytest.mark.parametrize(
    ("every_gpu", "test_precision", "total", "ok"),
    [
        (False, False, 100 * GB, True),
        (False, False, 41 * GB, None),
        (False, False, 39 * GB, False),
        (True, False, 39 * GB, True),
        (False, True, 50 * GB, False),
        (False, False, 0, None),
    ],
)
def test_weights_are_held_against_memory(
    *, every_gpu: bool, test_precision: bool, total: int, ok: bool | None
) -> None:
    found = export_memory(20 * GB, total, every_gpu=every_gpu, test_precision=test_precision)
    assert found.ok is ok


def test_remedies_name_only_what_is_not_done_yet() -> None:
    both = export_memory(20 * GB, GB, every_gpu=False, test_precision=True).detail
    assert "export.gpus: all" in both
    assert "export.test_precision: false" in both
    none = export_memory(20 * GB, GB, every_gpu=True, test_precision=False).detail
    assert "more memory" in none


def test_weights_count_in_the_dtype_of_the_export() -> None:
    assert recast(2 * GB, "bfloat16", "float32") == 4 * GB
