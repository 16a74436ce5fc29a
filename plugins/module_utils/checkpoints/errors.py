# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What went wrong with a checkpoint, as the controller tells it. Python 3.9 and later."""

from __future__ import annotations


class GatherError(Exception):
    """A gather cannot be done, or what came proves nothing.

    Args:
        expected: What had to be.
        found: What is.
        where: The node and the folder or file.
        remedy: What to do.
    """

    def __init__(self, expected: str, found: str, where: str, remedy: str) -> None:
        self.finding = {
            "expected": expected,
            "found": found,
            "where": where,
            "remedy": remedy,
        }
        super().__init__("; ".join(f"{name}: {text}" for name, text in self.finding.items()))
