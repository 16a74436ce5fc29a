# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Checkpoints on nodes: what is there, how it gets elsewhere, what is proven of it."""
