# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""What a node tells of itself before a launch; each subject has a module, `look` calls them all.

Standard library only, Python 3.9 or newer. Nothing is judged here: `pyswiftops.preflight` does.
"""
