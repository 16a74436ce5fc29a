# ruff: noqa: INP001 -- Sphinx reads it as a file
"""How the documentation site is built: ``make docs``.

Pages are plain Markdown that reads well without Sphinx too. What Sphinx adds is the site, the check
of every link and anchor, and the reference pages that are made from the code as the site is built
(``docs/reference/make_reference.py``).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pyswiftops

HERE = Path(__file__).resolve().parent

project = "pyswiftops"
author = "The pyswiftops developers"
copyright = author  # noqa: A001 -- Sphinx's name for it
version = release = pyswiftops.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**",
    "roles/*/README.md",
    "tests/gpu/README.md",
]
exclude_patterns = ["**/__pycache__", "docs/*.py", "docs/**/*.py"]

myst_heading_anchors = 4
myst_links_external_new_tab = False
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]  # JSON with "..." in it is for people
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
add_module_names = False

html_theme = "furo"
html_title = f"pyswiftops {release}"
html_show_sphinx = False
html_copy_source = False


def _make_reference() -> None:
    path = HERE / "reference" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    assert spec  # noqa: S101 -- the file stands beside this one
    assert spec.loader  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(HERE / "reference" / "generated")


_make_reference()
