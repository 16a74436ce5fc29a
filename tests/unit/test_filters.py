"""The filter plugin: what the Python package offers, with Ansible's errors."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
from ansible.errors import AnsibleFilterError

from pyswiftops import filters

PLUGIN = "ansible_collections.pyswiftops.fleet.plugins.filter.package"


def plugin() -> ModuleType:
    sys.modules.pop(PLUGIN, None)
    return importlib.import_module(PLUGIN)


def test_no_filter_hides_another() -> None:
    parts = (
        filters.checkpoints,
        filters.containers,
        filters.fabric,
        filters.fetch,
        filters.installing,
        filters.preflight,
        filters.settings,
        filters.stages,
    )
    assert len(filters.FILTERS) == sum(len(part.FILTERS) for part in parts)
    assert plugin().FilterModule().filters().keys() == filters.FILTERS.keys()


def test_bad_input_is_ansibles_error_with_the_same_sentence() -> None:
    found = plugin().FilterModule().filters()
    assert found["job_directory"]("/root", "r", "train").startswith("/root/")
    with pytest.raises(AnsibleFilterError, match="a run id of letters"):
        found["job_directory"]("/root", "../r", "train")


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyswiftops.filters", None)
    made = plugin().FilterModule()
    with pytest.raises(AnsibleFilterError, match="pip install pyswiftops"):
        made.filters()
    monkeypatch.undo()
    plugin()
