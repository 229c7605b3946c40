"""How Sphinx builds the documentation: scripts/docs."""

from cmb_lightning import __version__

project = "cmb_lightning"
author = "the cmb_lightning developers"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
default_role = "code"  # docstrings mark code by single backticks
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # else a dataclass's attributes are described twice
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Learn to take the CMB out of the microwave sky",
    "page_width": "1160px",
    "sidebar_width": "250px",
}
html_static_path = []
html_copy_source = html_show_sourcelink = False
html_show_copyright = False
