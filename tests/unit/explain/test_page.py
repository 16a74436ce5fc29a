"""The page of upstream's errors is what the list says."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def test_the_page_is_written_from_the_list(checkout: Path) -> None:
    script = checkout / "docs" / "reference" / "make_errors.py"
    spec = importlib.util.spec_from_file_location("make_errors", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = script.with_name("upstream-errors.md").read_text(encoding="utf-8")
    assert page == module.text(), "run: python docs/reference/make_errors.py"
