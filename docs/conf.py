"""Configuration of the documentation; build it with ``make docs``."""

import logging
import os
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"
# Readers cannot act on what HyperSpy and eXSpy say at import.
logging.getLogger("hyperspy.decorators").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="Importing `Lazy")
_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))

import hyperspy.api as hs  # noqa: E402
from numpy.typing import ArrayLike  # noqa: E402
from sphinx.util.typing import stringify_annotation  # noqa: E402

import hyperspy_fewshot  # noqa: E402

hs.preferences.General.show_progressbar = False

project = "hyperspy_fewshot"
author = "hyperspy_fewshot developers"
project_copyright = author
version = release = hyperspy_fewshot.__version__

extensions = [
    "directives",
    "matplotlib.sphinxext.mathmpl",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
]
exclude_patterns = ["_build"]
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = project
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["formulas.css"]
html_sidebars = {"**": []}
html_theme_options = {"show_prev_next": False, "show_toc_level": 2}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False
numpydoc_show_class_members = False
python_maximum_signature_line_length = 88

_ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")

# Formulas are drawn by matplotlib: they show without a network, too.
mathmpl_fontsize = 15.0
mathmpl_srcset = ["2x"]

# The code of the pages is run when they are built; the files it writes go to a new folder.
plot_pre_code = ""
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 100)]
plot_working_directory = tempfile.mkdtemp()

# Without a network the second, empty inventory is used: links to other projects become plain text.
_EMPTY = Path(tempfile.mkdtemp()) / "objects.inv"
_HEAD = (
    "# Sphinx inventory version 2\n# Project: none\n# Version: 0\n"
    "# The remainder of this file is compressed using zlib.\n"
)
_EMPTY.write_bytes(_HEAD.encode() + zlib.compress(b""))
intersphinx_timeout = 5
intersphinx_mapping = {
    name: (address, (None, str(_EMPTY)))
    for name, address in {
        "exspy": "https://hyperspy.org/exspy/",
        "hyperspy": "https://hyperspy.org/hyperspy-doc/current/",
        "matplotlib": "https://matplotlib.org/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "python": "https://docs.python.org/3/",
    }.items()
}


def _readable(app, what, name, obj, options, signature, returns):
    """Show defaults made by a factory, and the type ArrayLike, in short."""
    if signature:
        for long in (_ARRAY_LIKE, _ARRAY_LIKE.replace("~", "")):
            signature = signature.replace(long, "ArrayLike")
        signature = signature.replace("<factory>", "...")
    return signature, returns


def setup(app):
    """Connect the change of signatures."""
    app.connect("autodoc-process-signature", _readable)
