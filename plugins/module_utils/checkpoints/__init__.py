# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What nodes do with checkpoints."""
