"""Which stages a run runs."""

from __future__ import annotations

import pytest

from pyswiftops.errors import BadInputError
from pyswiftops.stages.catalog import CATALOG, before, select

NAMES = tuple(CATALOG)


def test_all_stages_unless_told_otherwise() -> None:
    assert select() == NAMES


def test_from_and_to_are_both_included() -> None:
    chosen = select(first="train", last="export")
    assert chosen == ("train", "gather", "export")
    assert select(first="deploy") == ("deploy", "smoke")
    assert select(last=NAMES[0]) == NAMES[:1]


def test_only_keeps_the_order_of_the_catalog() -> None:
    assert select(["gather", "data"]) == ("data", "gather")


def test_a_stage_waits_for_all_that_lead_to_it() -> None:
    """Also where those between are not asked for: convert and train alone are no neighbours."""
    assert {"fetch", "convert", "roundtrip", "compare", "data"} <= before("train")
    assert before("fetch") == frozenset()
    assert before("smoke") == set(CATALOG) - {"smoke", "eval", "sample"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"only": ["trian"]}, "'trian'"),
        ({"first": "none"}, "'none'"),
        ({"last": "none"}, "'none'"),
        ({"first": "export", "last": "train"}, "at or after 'export'"),
        ({"only": ["train"], "first": "train"}, "both"),
    ],
)
def test_what_cannot_be_chosen_is_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        select(**arguments)  # type: ignore[arg-type]
