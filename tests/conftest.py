"""Shared by all tests: the collection as Python imports it, modules run as Ansible runs them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.content import collections_path

# This checkout's collection, before any that is installed.
sys.path.insert(0, str(collections_path()))
for loaded in [name for name in sys.modules if name.split(".")[0] == "ansible_collections"]:
    del sys.modules[loaded]
importlib.invalidate_caches()

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module's ``main`` on arguments; return the JSON it prints."""
    from ansible.module_utils import basic  # noqa: PLC0415 after the path above is set

    def run(name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        text = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}})
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text.encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        module = importlib.import_module(
            f"ansible_collections.pyswiftops.fleet.plugins.modules.{name}"
        )
        capsys.readouterr()
        with pytest.raises(SystemExit):
            module.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return run


@pytest.fixture
def checkout() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[1]
