"""Sphinx's configuration; `make docs` runs build.py beside this file, which gathers the sources first."""

import docstrings
import mathml

import labkit

project = "labkit"
author = "the labkit authors"
version = release = labkit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = []
nitpicky = False
suppress_warnings = ["ref.python"]  # the name of an attribute in a text is no link

# Notebooks come executed and compared by nbval; building the pages runs nothing.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shapes and units, which types do not
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True

# Everything lies in the folder: no font, script or formula comes from another host, and search works from disk.
html_theme = "alabaster"
html_theme_options = {
    "description": "Look inside hybrid-attention language models",
    "fixed_sidebar": True,
    "page_width": "1120px",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
    "sidebar_collapse": True,
}
html_css_files = ["labkit.css"]
html_js_files = [("plotly.min.js", {"defer": "defer"}), ("figures.js", {"defer": "defer"})]
html_title = f"labkit {release}"
html_show_sphinx = False
html_copy_source = False
html_show_search_summary = False  # a page from disk may not read its neighbours
html_math_renderer = "mathml"


def setup(app):
    """Formulas as MathML, which browsers draw by themselves; docstrings as they are written here."""
    mathml.setup(app)
    docstrings.setup(app)
