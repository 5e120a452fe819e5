"""Sphinx: ``python -m sphinx docs docs/_build``."""

from groupmap import __version__

project = "groupmap"
author = "The groupmap developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "images"]
napoleon_use_ivar = True
autodoc_typehints = "none"
html_theme = "alabaster"
