"""Filters of the roles that install."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyswiftops.installing import extras, megatron, packages

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    extras.extra_text,
    extras.extras_missing,
    extras.extras_plan,
    extras.extras_probe,
    megatron.megatron_checkouts,
    megatron.megatron_profile,
    packages.import_words,
    packages.install_commands,
    packages.install_findings,
    packages.install_look,
    packages.install_probe,
    packages.install_python,
)
FILTERS = {function.__name__: function for function in FUNCTIONS}
